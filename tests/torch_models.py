"""Parameters, gradients and comparisons that the tests of `fastopt.torch` share."""

from __future__ import annotations

import numpy as np
import torch
from test_torch import assert_agree

import fastopt.torch

torch.set_num_threads(1)  # OpenMP's workers busy-wait, which slows down tests on a busy machine a hundred times

NAMES = fastopt.torch.__all__
SHAPES = [(70, 50), (300,), (), (3, 4, 5), (0, 3), (1, 1)]
CLASSES = {name: getattr(fastopt.torch, name) for name in NAMES}
PEERS = {name: getattr(torch.optim, name) for name in NAMES}

VARIANTS = [  # of each class, with all states that it can have
    ("SGD", {"lr": 0.01}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ("RMSprop", {"lr": 0.001}),
    ("RMSprop", {"lr": 0.0001, "momentum": 0.9, "centered": True, "weight_decay": 0.01}),
    ("Adagrad", {"lr": 0.01, "lr_decay": 0.1}),
    ("Adagrad", {"lr": 0.01, "initial_accumulator_value": 0.1, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.001, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.001, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.001, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.001, "amsgrad": True, "betas": (0.8, 0.95)}),
]
ONE_OF_EACH = [("SGD", {"lr": 0.01, "momentum": 0.9}), *[(name, {}) for name in NAMES[1:]]]


def ids(rows):
    return [f"{name}-{options}" for name, options in rows]


def parameters(dtype=torch.float32, seed=0):
    """Return parameters of several shapes; one has the layout of ``channels_last``, and one is transposed."""
    rng = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, dtype=dtype, generator=rng) for shape in SHAPES]
    tensors.append(torch.randn((8, 3, 5, 5), dtype=dtype, generator=rng).to(memory_format=torch.channels_last))
    tensors.append(torch.randn((20, 30), dtype=dtype, generator=rng).t())
    return [torch.nn.Parameter(tensor) for tensor in tensors]


def set_gradients(params, step, left_out=()):
    """Give parameters the same gradients as any others with these shapes at this step, away from zero."""
    rng = np.random.default_rng(step)
    for i, param in enumerate(params):
        grad = rng.choice([-1, 1], param.shape) * rng.uniform(0.5, 1.5, param.shape)
        param.grad = None if i in left_out else torch.empty_like(param).copy_(torch.as_tensor(grad))


def assert_params_agree(mine, theirs):
    for own, other in zip(mine, theirs, strict=True):
        real = np.float32 if own.dtype is torch.float32 else np.float64
        if own.numel():
            assert_agree(own.detach().numpy(), other.detach().numpy(), real)


def assert_params_equal(mine, theirs):
    for own, other in zip(mine, theirs, strict=True):
        assert torch.equal(own, other)


def loop(optimizer, params, steps, leaves_out=False):
    """Step with the gradients of some steps, of which every other one leaves some parameters out."""
    for step in steps:
        set_gradients(params, step, {step % 5, step % 3} if leaves_out and step % 2 else ())
        optimizer.step()


def states_of(optimizer):
    """Return copies of the states of each parameter, in order."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return [{name: value.clone() for name, value in optimizer.state.get(p, {}).items()} for p in params]


def assert_states_equal(mine, theirs):
    for own, other in zip(states_of(mine), states_of(theirs), strict=True):
        assert set(own) == set(other)
        assert all(torch.equal(own[name], other[name]) for name in own)
