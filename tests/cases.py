"""The table of optimizers and options for tests and benchmarks.

A row is the class, its hyperparameters, and the options of the whole step. To test a new optimizer, add rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastopt
from fastopt import _core, losses, reference

CHUNK = _core.CHUNK
SIZES = [0, 1, 7, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, 1_000_003]
REALS = [np.float32, np.float64]


@dataclass(frozen=True)
class Case:
    """An optimizer class with its options."""

    cls: type
    hyper: dict[str, Any] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)  # options of the whole step

    def __str__(self) -> str:
        options = {**self.hyper, **self.common}
        texts = [f"{name}={getattr(value, '__name__', value)}" for name, value in options.items()]
        return "-".join([self.cls.__name__, *texts])

    def make(self, params, **more):
        """Return a new optimizer."""
        return self.cls(params, **self.hyper, **self.common, **more)


def rising(step):
    """Return a rate that increases with the step."""
    return 0.01 * (step + 1)


def pausing(step):
    """Return a rate that is zero in every third step."""
    return 0.01 * ((step + 1) % 3)


CASES = [
    Case(fastopt.SGD, {"lr": 0.1}),
    Case(fastopt.SGD, {"lr": 0.1, "weight_decay": 0.01, "maximize": True}),
    Case(fastopt.SGD, {"lr": 0.1, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    Case(fastopt.SGD, {"lr": 0.1}, {"max_grad_norm": 1.0}),
    Case(fastopt.SGD, {"lr": 0.1, "momentum": 0.9}),
    Case(fastopt.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    Case(fastopt.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    Case(fastopt.Momentum, {"lr": 0.01}),
    Case(fastopt.Momentum, {"lr": 0.01, "nesterov": True, "weight_decay": 0.01}),
    Case(fastopt.Momentum, {"lr": pausing, "nesterov": True}),
    Case(fastopt.Momentum, {"lr": 0.01, "form": "ema", "maximize": True}),
    Case(fastopt.Momentum, {"lr": 0.01, "form": "ema", "nesterov": True, "decoupled_weight_decay": True}),
    Case(fastopt.RMSprop, {}),
    Case(fastopt.RMSprop, {"eps": 1e-3, "eps_inside_sqrt": True, "weight_decay": 0.01}),
    Case(fastopt.RMSprop, {"centered": True, "eps_inside_sqrt": True}),
    Case(fastopt.RMSprop, {"momentum": 0.9, "maximize": True}),
    Case(fastopt.RMSprop, {"centered": True, "momentum": 0.9, "alpha": 0.9}),
    Case(fastopt.Adagrad, {"lr": 0.1}),
    Case(
        fastopt.Adagrad,
        {"lr": 0.1, "lr_decay": 0.5, "initial_accumulator_value": 0.1, "weight_decay": 0.01, "maximize": True},
    ),
    Case(fastopt.Adagrad, {"lr": rising, "lr_decay": 0.5, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case(fastopt.Adam, {}),
    Case(fastopt.Adam, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.01, "maximize": True}),
    Case(fastopt.Adam, {"amsgrad": True}),
    Case(fastopt.Adam, {"amsgrad": True, "weight_decay": 0.01}, {"grad_scale": 1024.0}),
    Case(fastopt.Adam, {"lr": 0.01, "eps": 1e-3, "eps_hat": True}),
    Case(fastopt.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    Case(fastopt.AdamW, {"amsgrad": True, "eps": 1e-2, "eps_hat": True}),
    Case(fastopt.AdamW, {"amsgrad": True, "maximize": True}, {"max_grad_norm": 1e3}),
    Case(fastopt.Adam, {}, {"zero_grads": True}),
    Case(fastopt.Adam, {}, {"ema_decay": 0.99}),
    Case(fastopt.SGD, {"lr": pausing}, {"ema_decay": 0.25}),
    Case(fastopt.Adam, {}, {"nonfinite": "raise"}),
    Case(
        fastopt.AdamW,
        {"lr": rising},
        {"max_grad_norm": 2.0, "grad_scale": 3.0, "ema_decay": 0.9, "zero_grads": True, "nonfinite": "skip"},
    ),
]


def hard_numbers(size: int, real: type, seed: int = 0):
    """Return gradients over 24 decades, with zeros of both signs, denormal and huge numbers among them."""
    rng = np.random.default_rng(seed)
    info = np.finfo(real)
    numbers = rng.choice([-1.0, 1.0], size) * 10.0 ** rng.uniform(-12, 12, size)
    kind = rng.random(size)
    numbers[kind < 0.05] = 0.0
    numbers[kind < 0.025] = -0.0
    odd = (kind > 0.95) & (kind < 0.975)
    numbers[odd] = rng.uniform(-1, 1, odd.sum()) * float(info.tiny)
    odd = kind > 0.975
    numbers[odd] = rng.uniform(-1e-3, 1e-3, odd.sum()) * math.sqrt(float(info.max))
    return numbers.astype(real)


def start_values(size: int, real: type, seed: int = 1):
    """Return parameters of ordinary size, with a few zeros and denormal numbers."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, size)
    values[rng.random(size) < 0.02] = 0.0
    values[rng.random(size) < 0.01] = float(np.finfo(real).tiny) / 3
    return values.astype(real)


def layouts(size):
    """Return, for each structure of parameters, a function that builds it from an array and one that joins it again."""
    shapes = {"w": (size // 4, 2), "b": size - size // 4 * 2}

    def flat(x):
        made = fastopt.Flat(shapes, x.dtype)
        made.buffer[:] = x
        return made

    def named(x):
        return dict(flat(x))

    return {
        "array": (lambda x: x.copy(), lambda a: a),
        "Flat": (flat, lambda f: f.buffer),
        "mapping": (named, lambda d: np.concatenate([d["w"].ravel(), d["b"].ravel()])),
        "list": (lambda x: list(named(x).values()), lambda a: np.concatenate([v.ravel() for v in a])),
        "tuple": (lambda x: tuple(named(x).values()), lambda a: np.concatenate([v.ravel() for v in a])),
    }


def calls_on_rows(x, target, labels, more):
    """Return calls of everything that works on rows, by name.

    ``more`` is the weight, the bias, the running averages and a gradient.
    """
    weight, bias, mean, var, grad = more
    return {
        **{
            name: lambda name=name: getattr(losses, name)(x, target, reduction="none")
            for name in ("mse", "mae", "huber", "log_cosh", "binary_cross_entropy", "focal")
        },
        "cross_entropy": lambda: losses.cross_entropy(x, labels, label_smoothing=0.1, weight=weight, reduction="none"),
        "cross_entropy, soft": lambda: losses.cross_entropy(x, target, reduction="none"),
        "dice": lambda: losses.dice(x, labels, from_logits="softmax" if x.shape[-1] > 1 else "sigmoid"),
        "dice, sigmoid": lambda: losses.dice(x, target, from_logits="sigmoid"),
        "dropout": lambda: [fastopt.dropout(x, 0.3, seed=0, step=1)],
        "batch_norm": lambda: [
            *(saved := fastopt.batch_norm(x, weight, bias, mean, var))[:1],
            *fastopt.batch_norm_backward(grad, saved[1]),
            mean,
            var,
        ],
        "l2_penalty": lambda: [np.array(fastopt.l2_penalty(x, 0.1, grad)), grad],
    }


class Reference:
    """The NumPy reference of a case as an optimizer, with copies of all arrays; None leaves one out of a step.

    ``tensors`` has a dictionary for each array, also for each one of a ``Flat``.
    """

    def __init__(self, case: Case, params: list[Any]) -> None:
        self.case, self.steps, self.grad_norm = case, 0, None
        self.rule = getattr(reference, case.cls.rule)
        self.common = {name: value for name, value in case.common.items() if name not in ("nonfinite", "convert_grads")}
        self.groups, self.group_indices = [], []  # hyperparameters, and the place among them of those of each tensor
        self.tensors, self.own_steps = [], []
        self.flats = []  # of each Flat: the indices of its tensors, and the buffers that they are views of
        self.add_group(params)

    def add_group(self, params: list[Any], **hyper: Any) -> None:
        """Add a group of arrays and Flats, with hyperparameters in place of some of those of the case."""
        options = {**self.case.hyper, **hyper}
        group = self.case.cls(np.zeros(0), **options, **self.case.common).param_groups[0]
        starts = {"sum": options.get("initial_accumulator_value", 0.0)}
        for param in params:
            array = param.buffer if isinstance(param, fastopt.Flat) else param
            whole = {"param": array.copy("K")}
            for name in group.state:
                whole[name] = array.copy("K") if name == "ema" else np.full_like(array, starts.get(name, 0.0))
            added = [whole]
            if isinstance(param, fastopt.Flat):
                views = {name: fastopt.Flat.from_buffer(param.layout, buffer) for name, buffer in whole.items()}
                added = [{name: flat[key] for name, flat in views.items()} for key in param]
                self.flats.append((range(len(self.tensors), len(self.tensors) + len(added)), whole))
            self.tensors += added
            self.own_steps += [0] * len(added)
            self.group_indices += [len(self.groups)] * len(added)
        self.groups.append(dict(group))

    def step(self, grads: list[np.ndarray | None]) -> None:
        """Run one step, with a gradient or None for each tensor."""
        hyper = [{name: value_at(value, self.steps) for name, value in group.items()} for group in self.groups]
        self.steps += 1
        taking_part = {}
        for i, grad in enumerate(grads):
            if grad is not None:
                self.own_steps[i] += 1
                taking_part[i] = {**self.tensors[i], "grad": grad, **hyper[self.group_indices[i]]}
        for indices, whole in self.flats:  # one array, unless its arrays differ in what they have missed
            if set(indices) <= set(taking_part) and len({self.own_steps[i] for i in indices}) == 1:
                taking_part[indices[0]] |= {**whole, "grad": np.concatenate([grads[i].ravel() for i in indices])}
                for i in indices[1:]:
                    del taking_part[i]
        steps = [self.own_steps[i] for i in taking_part]
        with np.errstate(all="ignore"):
            norm = reference.whole_step(self.rule, list(taking_part.values()), step=steps, **self.common)
        if self.common.get("max_grad_norm") is not None:
            self.grad_norm = norm


def value_at(value: Any, steps: int) -> Any:
    """Return a hyperparameter after a number of steps."""
    if isinstance(value, tuple):
        return tuple(value_at(each, steps) for each in value)
    return float(value(steps)) if callable(value) else value


class Foreign:
    """An object with ``__array_interface__`` but without a buffer."""

    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


def read_only(array):
    """Return an array after making it read-only."""
    array.flags.writeable = False
    return array


def leaves(value):
    """Return all arrays in a value, for an optimizer its parameters, states and counters (but not ``grad_norm``)."""
    if isinstance(value, fastopt.Optimizer):
        plan = value._plan
        return [
            array
            for part in (value._tree.arrays, value.state, plan.progress[:40], plan.missed)
            for array in leaves(part)
        ]
    if isinstance(value, Foreign):
        return [value.array]
    if isinstance(value, (np.ndarray, np.generic)):
        return [value]
    if isinstance(value, Mapping):
        return [array for item in value.values() for array in leaves(item)]
    return [array for item in value for array in leaves(item)] if isinstance(value, (list, tuple)) else []


def bits(array: np.ndarray) -> np.ndarray:
    """Return the bits of an array, with one pattern for every NaN."""
    array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.view(f"u{array.dtype.itemsize}")


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays have the same type, shape and bits."""
    return a.dtype == b.dtype and a.shape == b.shape and bool((bits(a) == bits(b)).all())


def check_gradients(network, *batch, tolerance, **options):
    """Compare 50 gradients of an example's network with differences of its loss."""
    network.loss_and_gradients(*batch, **options)
    params, grads = network.params.buffer, network.grads.buffer.copy()
    for i in np.random.default_rng(0).choice(params.size, 50, replace=False):
        kept, h = params[i], 1e-6
        params[i] = kept + h
        above = network.loss_and_gradients(*batch, **options)
        params[i] = kept - h
        below = network.loss_and_gradients(*batch, **options)
        params[i] = kept
        assert abs((above - below) / (2 * h) - grads[i]) <= max(tolerance, 1e-6 * abs(grads[i]))
