"""Every formula and option that PyTorch has too agrees with it over 100 steps."""

from __future__ import annotations

import inspect
from itertools import product

import numpy as np
import pytest

import fastopt

torch = pytest.importorskip("torch")

STEPS = 100
SIZE = 10_000

# The largest differences in float32 after 100 steps, in units in the last place of max(1, |p|): root mean square, and
# maximum of 10,000 elements. Rounding errors add up like a random walk, to 1 and 8 (measured). For comparison, both
# libraries differ from PyTorch's float64 result by up to 10 to 60 units.
FLOAT32_ULP_MEAN, FLOAT32_ULP = 2, 12
FLOAT64 = 1e-12


def options(**choices):
    """Return every combination of the choices."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


COMMON = {"weight_decay": [0.0, 0.01], "maximize": [False, True]}
has_decoupled = "decoupled_weight_decay" in inspect.signature(torch.optim.Adam).parameters  # not in PyTorch 2.6
DECOUPLED = {"decoupled_weight_decay": [True]} if has_decoupled else {}
ROWS = [
    *[("SGD", row) for row in options(lr=[0.01], **COMMON)],
    *[("SGD", row) for row in options(lr=[0.01], momentum=[0.9], dampening=[0.0, 0.3], **COMMON)],
    *[("SGD", row) for row in options(lr=[0.01], momentum=[0.9], nesterov=[True], **COMMON)],
    *[("RMSprop", row) for row in options(lr=[0.001], centered=[False, True], momentum=[0.0, 0.9], **COMMON)],
    *[("RMSprop", row) for row in options(lr=[0.01], alpha=[0.9], eps=[1e-3], **COMMON)],
    *[("Adagrad", row) for row in options(lr=[0.01], lr_decay=[0.0, 0.1], **COMMON)],
    *[("Adagrad", row) for row in options(lr=[0.1], initial_accumulator_value=[0.1], eps=[1e-3], **COMMON)],
    *[("Adam", row) for row in options(lr=[0.001], amsgrad=[False, True], **COMMON)],
    *[("Adam", row) for row in options(lr=[0.01], betas=[(0.8, 0.95)], eps=[1e-3], amsgrad=[False, True], **COMMON)],
    *[("Adam", row) for row in options(lr=[0.01], weight_decay=[0.01], **DECOUPLED)],
    *[("AdamW", row) for row in options(lr=[0.001], amsgrad=[False, True], **COMMON)],
    *[("AdamW", row) for row in options(lr=[0.01], betas=[(0.8, 0.95)], eps=[1e-3], amsgrad=[False, True], **COMMON)],
]


@pytest.mark.parametrize(
    ("real", "max_norm"),
    [
        pytest.param(np.float32, 50.0, id="float32-clip"),
        pytest.param(np.float32, None, id="float32", marks=pytest.mark.slow),
        pytest.param(np.float64, 50.0, id="float64-clip", marks=pytest.mark.slow),
        pytest.param(np.float64, None, id="float64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("name", "hyper"), ROWS, ids=[f"{name}-{hyper}" for name, hyper in ROWS])
def test_steps_agree_with_torch(name, hyper, real, max_norm):
    rng = np.random.default_rng(0)
    start = rng.normal(0, 1, SIZE).astype(real)
    # Away from zero: where gradient and decay cancel, RMSprop's g / sqrt(v) magnifies the rounding of the norm.
    grads = [(rng.choice([-1, 1], SIZE) * rng.uniform(0.5, 1.5, SIZE)).astype(real) for _ in range(STEPS)]
    mine = start.copy()
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = getattr(fastopt, name)(mine, **hyper, max_grad_norm=max_norm)
    peer = getattr(torch.optim, name)([theirs], **hyper)
    for grad in grads:
        optimizer.step(grad)
        theirs.grad = torch.tensor(grad)
        if max_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_([theirs], max_norm)
            assert optimizer.grad_norm == pytest.approx(float(norm), rel=1e-6 if real is np.float32 else 1e-14)
        peer.step()
    assert np.abs(mine - start).max() > 1e-4  # the parameters have moved
    assert_agree(mine, theirs.detach().numpy(), real)
    assert_states_agree(optimizer.state, peer.state[theirs], real)


def assert_agree(mine, theirs, real):
    """Parameters agree up to the rounding errors of 100 steps."""
    size, error = np.maximum(np.abs(mine), real(1)), np.abs(mine - theirs)
    if real is np.float32:
        ulp = (error / np.spacing(size)).astype(np.float64)
        assert np.sqrt((ulp**2).mean()) <= FLOAT32_ULP_MEAN
        assert ulp.max() <= FLOAT32_ULP
    else:
        assert (error / size).max() <= FLOAT64


def assert_states_agree(states, theirs, real):
    """States have PyTorch's names, and its values up to the rounding errors of 100 steps."""
    assert set(states) == {name for name, value in theirs.items() if name != "step" and value is not None}
    for name, state in states.items():
        rtol = 1e-4 if real is np.float32 else FLOAT64
        np.testing.assert_allclose(state, theirs[name].numpy(), rtol=rtol, atol=rtol * np.abs(state).max())


FROZEN = [
    ("SGD", {"lr": 0.01, "momentum": 0.9}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3}),
    ("RMSprop", {"lr": 0.001}),
    ("RMSprop", {"lr": 0.0001, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.001, "centered": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.001}),
    ("Adam", {"lr": 0.001, "amsgrad": True, "weight_decay": 0.01}),
    ("AdamW", {"lr": 0.001, "weight_decay": 0.1}),
]
SHAPES = {"a": (70, 50), "b": (300,), "c": (), "d": (3, 4, 5)}


@pytest.mark.parametrize(
    ("real", "max_norm"),
    [
        pytest.param(np.float32, 20.0, id="float32-clip"),
        pytest.param(np.float32, None, id="float32", marks=pytest.mark.slow),
        pytest.param(np.float64, 20.0, id="float64-clip", marks=pytest.mark.slow),
        pytest.param(np.float64, None, id="float64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("name", "hyper"), FROZEN, ids=[f"{name}-{hyper}" for name, hyper in FROZEN])
def test_steps_without_some_gradients_agree_with_torch(name, hyper, real, max_norm):
    """200 steps of a Flat, and of a list and another Flat that are added on the way; half of the arrays take part."""
    rng, groups, theirs = np.random.default_rng(0), [], []

    def add_group(**options):
        start = {own: np.asarray(rng.normal(0, 1, shape), real) for own, shape in SHAPES.items()}
        groups.append(list(start.values()) if len(groups) == 1 else fastopt.Flat(start, real))
        theirs.append([torch.nn.Parameter(torch.tensor(array)) for array in start.values()])
        return {"params": groups[-1], **options}, {"params": theirs[-1], **options}

    mine, of_torch = add_group()
    optimizer = getattr(fastopt, name)([mine], **hyper, max_grad_norm=max_norm)
    peer = getattr(torch.optim, name)([of_torch], **hyper)
    for step in range(2 * STEPS):
        if step in (50, 120):
            mine, of_torch = add_group(lr=hyper["lr"] / 2)
            optimizer.add_param_group(mine)
            peer.add_param_group(of_torch)
        grads, skip = [], []
        for params, tensors in zip(groups, theirs, strict=True):
            made = {own: np.asarray(rng.uniform(0.5, 1.5, shape), real) for own, shape in SHAPES.items()}
            made = {own: grad * real(rng.choice([-1, 1])) for own, grad in made.items()}
            out = [own for own in SHAPES if step % 4 and rng.random() < 0.6]
            is_flat = isinstance(params, fastopt.Flat)
            grads.append(fastopt.Flat(made, real) if is_flat else [None if n in out else g for n, g in made.items()])
            skip.append(out if is_flat else ())
            for own, tensor in zip(SHAPES, tensors, strict=True):
                tensor.grad = None if own in out else torch.tensor(made[own])
        optimizer.step(grads, skip)
        if max_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_([tensor for tensors in theirs for tensor in tensors], max_norm)
            assert optimizer.grad_norm == pytest.approx(float(norm), rel=1e-6 if real is np.float32 else 1e-14)
        peer.step()
    for params, tensors, state in zip(groups, theirs, optimizer.state, strict=True):
        for i, (own, tensor) in enumerate(zip(SHAPES, tensors, strict=True)):
            key = own if isinstance(params, fastopt.Flat) else i
            assert_agree(params[key], tensor.detach().numpy(), real)
            assert_states_agree({n: arrays[key] for n, arrays in state.items()}, peer.state[tensor], real)


def test_tensor_is_updated_through_its_numpy_view():
    tensor = torch.ones(5)
    fastopt.SGD(tensor.numpy(), lr=1.0).step(torch.full((5,), 0.25).numpy())
    assert tensor.tolist() == [0.75] * 5


def test_flush_denormal_changes_no_bit():
    """torch.set_flush_denormal sets a processor flag, in the calling thread only."""
    wanted, converted, norms, numbers = [], [], set(), np.full(20_000, 1e-40, np.float32)
    for flush in (False, True):
        torch.set_flush_denormal(flush)
        try:
            for threads in (1, 2):
                fastopt.set_num_threads(threads)
                param = numbers.copy()
                fastopt.SGD(param, lr=0.5, max_grad_norm=1.0).step(numbers)
                wanted.append(param.view(np.uint32))
                # the coefficients and the norm are computed in the calling thread alone
                param = np.ones(2, np.float32)
                fastopt.Adam(param, eps=1e-40).step(np.zeros(2, np.float32))
                assert (param == 1).all()
                optimizer = fastopt.SGD(np.ones(2), max_grad_norm=1.0)
                optimizer.step(np.full(2, 1e-160))
                norms.add(optimizer.grad_norm)
                param = np.zeros(2, np.float32)
                fastopt.SGD(param, lr=1.0, convert_grads=True).step(np.full(2, -1e-40))
                converted.append(param.view(np.uint32))
            assert bool(np.float32(1e-40) * np.float32(1) == 0) == flush  # the flag is left as it was
        finally:
            torch.set_flush_denormal(False)
    assert len(norms) == 1
    assert norms.pop() > 0
    assert wanted[0].any()
    assert all((param == wanted[0]).all() for param in wanted)
    assert all((param == numbers[:2].view(np.uint32)).all() for param in converted)


def test_rejects_tensors():
    with pytest.raises(TypeError, match=r"params must be an array .*, got 'Tensor'"):
        fastopt.SGD(torch.ones(5))
