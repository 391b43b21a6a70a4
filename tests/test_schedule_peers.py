"""Schedules compared with PyTorch and Optax over a grid of arguments: zero, one, huge, negative, not whole.

A row is the axes of the grid, the schedule, and the function of the other library that the docstring of the schedule
names.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fastopt import schedules as s

STEPS = 60


def grid(axes):
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def torch_rates(make, metrics=()):
    """Return the rates of a PyTorch scheduler at steps 0, 1, 2, ..."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    scheduler, rates = make(torch.optim.lr_scheduler, optimizer), []
    for i in range(STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        if i + 1 < STEPS:
            optimizer.step()
            scheduler.step(*metrics[i : i + 1])
    return rates


DURATIONS, FACTORS, ENDS = [1, 2, 7, 2 * STEPS, 2**53], [1e-3, 0.5, 0.99, 1.0], [0.0, 0.01, 0.2]
BOUNDARIES = [[0, 0], [0, 3], [3, 3], [7, 50]]
PYTORCH = {
    "ConstantLR": ({}, lambda: s.Constant(0.1), lambda of, o: of.ConstantLR(o, factor=1.0)),
    "ExponentialLR": (
        {"rate": [*FACTORS, 1.5]},
        lambda rate: s.Exponential(0.1, rate),
        lambda of, o, rate: of.ExponentialLR(o, rate),
    ),
    "StepLR": (
        {"size": DURATIONS, "rate": [*FACTORS, 1.5]},
        lambda size, rate: s.StepDecay(0.1, size, rate),
        lambda of, o, size, rate: of.StepLR(o, size, rate),
    ),
    "MultiStepLR": (
        {"steps": [[], [0], [1], [0, 3, 5, 50]], "rate": FACTORS},
        lambda steps, rate: s.PiecewiseConstant(0.1, [(step, rate) for step in steps]),
        lambda of, o, steps, rate: of.MultiStepLR(o, steps, rate),
    ),
    "PolynomialLR": (
        {"steps": DURATIONS, "power": [0.5, 1, 1.7, 50]},
        lambda steps, power: s.Polynomial(0.1, 0.0, power, steps),
        lambda of, o, steps, power: of.PolynomialLR(o, steps, power),
    ),
    "LinearLR": (
        {"start": [0.1, 1.0], "end": [0.0, 0.5, 1.0], "steps": DURATIONS},
        lambda start, end, steps: s.Linear(0.1 * start, 0.1 * end, steps),
        lambda of, o, start, end, steps: of.LinearLR(o, start, end, steps),
    ),
    "CosineAnnealingLR": (
        {"steps": [STEPS - 1, STEPS, 10 * STEPS], "end": ENDS},
        lambda steps, end: s.Cosine(0.1, steps, end),
        lambda of, o, steps, end: of.CosineAnnealingLR(o, steps, end),
    ),
    "CosineAnnealingWarmRestarts": (
        {"steps": DURATIONS, "multiplier": [1, 2, 3], "end": ENDS},
        lambda steps, multiplier, end: s.CosineRestarts(0.1, steps, multiplier, end),
        lambda of, o, steps, multiplier, end: of.CosineAnnealingWarmRestarts(o, steps, multiplier, end),
    ),
    "OneCycleLR": (
        # PyTorch's peak is at pct_start * N - 1 and its end at N - 1
        {"pct_start": [0.05, 0.1, 0.3, 0.33, 0.95]},
        lambda pct_start: s.OneCycle(STEPS - 1, 0.5, (pct_start * STEPS - 1) / (STEPS - 1)),
        lambda of, o, pct_start: of.OneCycleLR(o, 0.5, STEPS, pct_start=pct_start, cycle_momentum=False),
    ),
    "CyclicLR": (  # loses digits with longer cycles
        {"base": [0.1, 0.5], "peak": [0.1, 0.5], "up": DURATIONS[:4], "down": [None, *DURATIONS[:4]]},
        s.Cyclic,
        lambda of, o, base, peak, up, down: of.CyclicLR(o, base, peak, up, down, cycle_momentum=False),
    ),
    "SequentialLR": (
        {"boundaries": BOUNDARIES},
        lambda boundaries: s.Join([s.Linear(0.05, 0.1, 4), s.Constant(0.1), s.Exponential(0.1, 0.9)], boundaries),
        lambda of, o, boundaries: of.SequentialLR(
            o, [of.LinearLR(o, 0.5, 1.0, 4), of.ConstantLR(o, 1.0), of.ExponentialLR(o, 0.9)], boundaries
        ),
    ),
    "SequentialLR with a LinearLR first": (
        {"warmup_steps": [1, 2, 7], "start": [0.1, 1.0]},
        lambda warmup_steps, start: s.Warmup(s.Cosine(0.1, STEPS), warmup_steps, 0.1 * start),
        lambda of, o, warmup_steps, start: of.SequentialLR(
            o, [of.LinearLR(o, start, 1.0, warmup_steps), of.CosineAnnealingLR(o, STEPS)], [warmup_steps]
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize("name", PYTORCH)
def test_values_match_pytorch(name):
    axes, ours, theirs = PYTORCH[name]
    for arguments in grid(axes):
        expected = torch_rates(lambda of, o, a=arguments: theirs(of, o, **a))
        schedule = ours(*arguments.values())
        np.testing.assert_allclose(schedule(range(STEPS)), expected, 1e-12, 1e-12, err_msg=str(arguments))


FRACTIONS = [0.0, 0.05, 0.1, 0.29, 0.33, 0.5, 0.95]
OPTAX = {
    "constant_schedule": ({}, lambda: s.Constant(0.1), lambda o: o.constant_schedule(0.1)),
    "exponential_decay": (
        {"steps": DURATIONS, "rate": [*FACTORS, 1.5]},
        lambda steps, rate: s.Exponential(0.1, rate, steps),
        lambda o, steps, rate: o.exponential_decay(0.1, steps, rate),
    ),
    "exponential_decay, staircase": (
        {"steps": DURATIONS, "rate": [*FACTORS, 1.5]},
        lambda steps, rate: s.StepDecay(0.1, steps, rate),
        lambda o, steps, rate: o.exponential_decay(0.1, steps, rate, staircase=True),
    ),
    "piecewise_constant_schedule": (
        {"scales": [{}, {0: 0.5}, {3: 0.0}, {7: 1e-3, 5: 2.0}]},
        lambda scales: s.PiecewiseConstant(0.1, scales),
        lambda o, scales: o.piecewise_constant_schedule(0.1, scales),
    ),
    "polynomial_schedule": (
        {"start": [0.0, 0.1, -1.0], "end": [0.0, 0.02], "power": [0.5, 1, 1.7, 50], "steps": DURATIONS},
        s.Polynomial,
        lambda o, start, end, power, steps: o.polynomial_schedule(start, end, power, steps),
    ),
    "linear_schedule": (
        {"start": [0.0, 0.1, -1.0], "end": [0.0, 0.02], "steps": DURATIONS},
        s.Linear,
        lambda o, start, end, steps: o.linear_schedule(start, end, steps),
    ),
    "cosine_decay_schedule": (
        {"start": [0.1, -1.0], "steps": DURATIONS, "end": ENDS},
        s.Cosine,
        lambda o, start, steps, end: o.cosine_decay_schedule(start, steps, end / start),
    ),
    "cosine_onecycle_schedule": (
        # Optax rounds the step of the peak down
        {"steps": [2, 7, 100], "pct_start": FRACTIONS, "div": [1.0, 25.0], "final_div": [0.5, 1e4]},
        lambda steps, pct_start, *factors: s.OneCycle(steps, 0.5, int(pct_start * steps) / steps, *factors),
        lambda o, steps, pct_start, div, final_div: o.cosine_onecycle_schedule(steps, 0.5, pct_start, div, final_div),
    ),
    "warmup_cosine_decay_schedule": (
        {"start": [0.0, 0.2, -1.0], "warmup_steps": [0, 1, 7], "steps": [8, 100], "end": ENDS},
        lambda start, warmup_steps, steps, end: s.Warmup(s.Cosine(0.1, steps - warmup_steps, end), warmup_steps, start),
        lambda o, start, warmup_steps, steps, end: o.warmup_cosine_decay_schedule(start, 0.1, warmup_steps, steps, end),
    ),
    "join_schedules": (
        {"boundaries": BOUNDARIES},
        lambda boundaries: s.Join([s.Linear(0.0, 0.1, 4), s.Constant(0.1), s.Exponential(0.1, 0.9)], boundaries),
        lambda o, boundaries: o.join_schedules(
            [o.linear_schedule(0.0, 0.1, 4), o.constant_schedule(0.1), o.exponential_decay(0.1, 1, 0.9)], boundaries
        ),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_values_match_optax(name):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    axes, ours, theirs = OPTAX[name]
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        steps = jax.numpy.arange(STEPS, dtype=float)
        for arguments in grid(axes):
            expected = np.broadcast_to(jax.vmap(theirs(optax, **arguments))(steps), STEPS)
            schedule = ours(*arguments.values())
            np.testing.assert_allclose(schedule(range(STEPS)), expected, 1e-12, 1e-12, err_msg=str(arguments))
    finally:
        jax.config.update("jax_enable_x64", before)


COMMON = {
    "mode": ["min", "max"],
    "patience": [0, 1, 3],
    "cooldown": [0, 2],
    "factor": [0.0, 0.5],
    "min_value": [0.0, 0.05, 0.2],
}
RNG = np.random.default_rng(0)
POSITIVE = RNG.integers(1, 9, STEPS) / 8
ANY_SIGN = RNG.choice([math.inf, -math.inf, math.nan, *np.linspace(-1, 1, 9)], STEPS)
RELATIVE = {"threshold_mode": ["rel"], "threshold": [0.0, 1e-4, 0.1, 0.5], **COMMON}
ABSOLUTE = {"threshold_mode": ["abs"], "threshold": [0.0, 0.1, 1.0, 1e300], **COMMON}
PLATEAUS = [  # relative thresholds: PyTorch's rule fails with negative metrics, and with thresholds >= 1
    *[(POSITIVE.tolist(), options) for options in grid(RELATIVE)],
    *[(ANY_SIGN.tolist(), options) for options in grid(ABSOLUTE)],
]


def test_plateau_matches_pytorch():
    names = {"min_value": "min_lr"}
    for metrics, options in PLATEAUS:
        theirs = {names.get(name, name): value for name, value in options.items()}
        expected = torch_rates(lambda of, o, own=theirs: of.ReduceLROnPlateau(o, **own, eps=0.0), metrics)
        plateau, rates = s.Plateau(0.1, **options), []
        for step, metric in enumerate(metrics):
            rates.append(plateau(step))
            plateau.update(metric)
        np.testing.assert_allclose(rates, expected, rtol=1e-12, err_msg=str(options))
