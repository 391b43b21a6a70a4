"""Refused arguments of schedules, batches, the learning rate range test, ``Flat`` and random numbers."""

from __future__ import annotations

import math
from functools import partial
from types import MappingProxyType

import numpy as np

from fastopt import SGD, Flat
from fastopt import schedules as s
from fastopt._util.random import random_uint32
from fastopt.batches import batches
from fastopt.lr_finder import find_lr

MASKED = "must be an array without a mask, got a masked array"
SEED, STEP = "an int from 0 to 2**64 - 1", "an int from 0 to 2**53 - 1"

# Schedules -----------------------------------------------------------------------------------------------------------

ONE = s.Constant(1.0)
FINITE, POSITIVE_COUNT = "a finite number", "an int >= 1"
OF_STEP = "must be a schedule or another function of the step, got "
REFUSALS = [
    (partial(s.Constant, math.nan), ValueError, f"value must be {FINITE}, got nan"),
    (partial(s.Exponential, 0.1, -1), ValueError, f"decay_rate must be {FINITE} > 0, got -1"),
    (partial(s.Exponential, 0.1, 0.5, 0), ValueError, f"transition_steps must be {POSITIVE_COUNT}, got 0"),
    (partial(s.StepDecay, 0.1, 2.5), TypeError, f"step_size must be {POSITIVE_COUNT}, got 2.5"),
    (
        partial(s.PiecewiseConstant, 0.1, 5),
        TypeError,
        "boundaries_and_scales must be a mapping of steps to factors, got 5",
    ),
    (
        partial(s.PiecewiseConstant, 0.1, {-1: 0.5}),
        ValueError,
        "step in boundaries_and_scales must be an int >= 0, got -1",
    ),
    (
        partial(s.PiecewiseConstant, 0.1, {3: "x"}),
        TypeError,
        f"boundaries_and_scales[3] must be {FINITE}, got 'x'",
    ),
    (
        partial(s.PiecewiseConstant, 0.1, [(10, 0.1), (10, 0.5)]),
        ValueError,
        "boundaries_and_scales must have distinct steps, got [(10, 0.1), (10, 0.5)]",
    ),
    (partial(s.Join, (x for x in [ONE, ONE]), [1]), TypeError, "schedules must be a list or tuple, got 'generator'"),
    (partial(s.Join, [ONE], None), TypeError, "boundaries must be a list or tuple, got 'NoneType'"),
    (partial(s.Join, [], []), ValueError, "schedules must contain at least one schedule, got none"),
    (partial(s.Join, [ONE, 3], [1]), TypeError, f"schedules[1] {OF_STEP}3"),
    (partial(s.Join, [ONE] * 3, [5, 1]), ValueError, "boundaries must be in ascending order, got [5, 1]"),
    (
        partial(s.Join, [ONE], [1]),
        ValueError,
        "boundaries must have one step less than there are schedules (1), got 1",
    ),
    (partial(s.Join([lambda step: None], []), 1), TypeError, "<function ...>(1) must be a number, got None"),
    (partial(s.Warmup(lambda step: "0.5", 2), 1), TypeError, "<function ...>(0) must be a number, got '0.5'"),
    (partial(s.Warmup, 0.1, 10), TypeError, f"schedule {OF_STEP}0.1"),
    (partial(s.InverseTimeDecay, 0.1, -0.1), ValueError, f"decay_rate must be {FINITE} >= 0, got -0.1"),
    (partial(s.Polynomial, 0.1, 0.0, 0, 10), ValueError, f"power must be {FINITE} > 0, got 0"),
    (partial(s.Linear, 0.1, math.inf, 10), ValueError, f"end_value must be {FINITE}, got inf"),
    (partial(s.Cosine, "a", 10), TypeError, f"init_value must be {FINITE}, got 'a'"),
    (partial(s.CosineRestarts, 0.1, 10, 1.5), TypeError, f"multiplier must be {POSITIVE_COUNT}, got 1.5"),
    (partial(s.OneCycle, 10, 1.0, 1.5), ValueError, "pct_start must be a number in [0, 1], got 1.5"),
    (partial(s.Cyclic, 0.1, 0.2, 10, 0), ValueError, f"step_size_down must be {POSITIVE_COUNT}, got 0"),
    (partial(s.WarmupStableDecay, 0.1, -1, 2, 3), ValueError, "warmup_steps must be an int >= 0, got -1"),
    (partial(s.Plateau, 0.1, factor=1.0), ValueError, "factor must be a number in [0, 1), got 1.0"),
    (partial(s.Plateau, 0.1, threshold=math.inf), ValueError, f"threshold must be {FINITE} >= 0, got inf"),
    (partial(s.Plateau, 0.1, mode="least"), ValueError, "mode must be 'min' or 'max', got 'least'"),
    *[
        (partial(s.Plateau.update, s.Plateau(0.1), metric), TypeError, f"metric must be a number, got {metric!r}")
        for metric in ("0.5", "x", True)
    ],
    (partial(s.plot_schedule, 5, 10), TypeError, f"schedule {OF_STEP}5"),
    (partial(s.plot_schedule, ONE, 0), ValueError, f"steps must be {POSITIVE_COUNT}, got 0"),
    (partial(s.plot_schedule, lambda step: "fast", 20), TypeError, "schedule(0) must be a number, got 'fast'"),
]
REFUSALS += [
    (partial(schedule, step), error, f"step must be an int >= 0 or an array of them, got {step!r}")
    for schedule in (ONE, s.Plateau(0.1))
    for error, steps in [
        (ValueError, [-1, np.array([3, -1])]),
        (TypeError, [0.5, "1", None, np.ones(2), True]),
    ]
    for step in steps
]

# Batches and random numbers ------------------------------------------------------------------------------------------

X = np.zeros((10, 2), np.float32)
REFUSALS += [
    (partial(batches, *arrays, batch_size=2), error, f"arrays{message}")
    for arrays, error, message in [
        ([], TypeError, " must contain at least one array, got none"),
        ([[1, 2]], TypeError, "[0] must be a NumPy array, got 'list'"),
        ([X, "abc"], TypeError, "[1] must be a NumPy array, got 'str'"),
        ([X, np.ma.array(X)], TypeError, f"[1] {MASKED}"),
        ([np.array(3.0)], ValueError, "[0] must have at least one dimension, got shape ()"),
        ([X, X, X[:9]], ValueError, "[2] must have 10 rows like arrays[0], got 9"),
        ([X[:0]], ValueError, "[0] must have at least one row, got shape (0, 2)"),
    ]
]
REFUSALS += [
    (partial(batches, X, **{"batch_size": 3, **options}), error, message)
    for options, error, message in [
        ({"batch_size": 0}, ValueError, "batch_size must be an int >= 1, got 0"),
        ({"batch_size": -1}, ValueError, "batch_size must be an int >= 1, got -1"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an int >= 1, got 2.0"),
        ({"batch_size": True}, TypeError, "batch_size must be an int >= 1, got True"),
        (
            {"batch_size": 11, "drop_last": True},
            ValueError,
            "batch_size must be at most the number of rows (10) with drop_last, got 11",
        ),
        ({"drop_last": 1}, ValueError, "drop_last must be True or False, got 1"),
        ({"shuffle": None}, ValueError, "shuffle must be True or False, got None"),
        ({"start": 5}, ValueError, "start must be at most the number of batches (4), got 5"),
        ({"start": 4, "drop_last": True}, ValueError, "start must be at most the number of batches (3), got 4"),
        ({"start": -1}, ValueError, "start must be an int >= 0, got -1"),
        ({"start": None}, TypeError, "start must be an int >= 0, got None"),
        ({"seed": -1}, ValueError, f"seed must be {SEED}, got -1"),
        ({"seed": None}, TypeError, f"seed must be {SEED}, got None"),
        ({"epoch": 2**53}, ValueError, f"epoch must be an int < 2**53, got {2**53}"),
        ({"epoch": 0.5, "shuffle": False}, TypeError, f"epoch must be {STEP}, got 0.5"),
    ]
]
REFUSALS += [
    (partial(random_uint32, seed, step, 0, 1), error, message)
    for seed, step, error, message in [
        (-1, 0, ValueError, f"seed must be {SEED}, got -1"),
        (2**64, 0, ValueError, f"seed must be an int < 2**64, got {2**64}"),
        (1.0, 0, TypeError, f"seed must be {SEED}, got 1.0"),
        (0, 2**53, ValueError, f"step must be an int < 2**53, got {2**53}"),
        (0, None, TypeError, f"step must be {STEP}, got None"),
    ]
]

# The learning rate range test ----------------------------------------------------------------------------------------

OPTIMIZER = SGD(np.ones(3))


def one(i):
    return 1.0


REFUSALS += [
    (partial(find_lr, 3, OPTIMIZER), TypeError, "step must be a function of ..., got 3"),
    (partial(find_lr, one, X), TypeError, "optimizer must be a fastopt.Optimizer, got 'ndarray'"),
    (partial(find_lr, lambda i: None, OPTIMIZER), TypeError, "step(0) must be a number, got None"),
    (partial(find_lr, lambda i: np.ones(2), OPTIMIZER), TypeError, "step(0) must be a number, got array([1., 1.])"),
    *[
        (partial(find_lr, one, OPTIMIZER, **options), error, message)
        for options, error, message in [
            ({"start": 0}, ValueError, "start must be a finite number > 0, got 0"),
            ({"end": math.inf}, ValueError, "end must be a finite number > 0, got inf"),
            ({"end": "10"}, TypeError, "end must be a finite number > 0, got '10'"),
            ({"start": 1, "end": 1}, ValueError, "start must be below end (1.0), got 1.0"),
            ({"steps": 1}, ValueError, "steps must be an int >= 2, got 1"),
            ({"steps": 9.0}, TypeError, "steps must be an int >= 2, got 9.0"),
            ({"restore": [1.0]}, TypeError, "restore[0] must be an array (something with ...), got 'float'"),
            ({"restore": np.ones(3, int)}, TypeError, "restore must have dtype float32 or float64, got int64"),
        ]
    ],
]

# Flat ----------------------------------------------------------------------------------------------------------------

FLAT = Flat({"w": 2})
NAMES = "must be a mapping of names to shapes or arrays, got "
SHAPE = "['w'] must be a shape or an array, got "
REFUSALS += [
    (partial(Flat, shapes), error, f"shapes_or_arrays{message}")
    for shapes, error, message in [
        ([(2, 2)], TypeError, f" {NAMES}'list'"),
        ({1: (2, 2)}, TypeError, " must have strings as names, got 1"),
        ({"w": "abc"}, TypeError, f"{SHAPE}'abc'"),
        ({"w": (2, 2.0)}, TypeError, f"{SHAPE}(2, 2.0)"),
        ({"w": (2, True)}, TypeError, f"{SHAPE}(2, True)"),
        ({"w": (2, -1)}, ValueError, "['w'] must have dimensions >= 0, got (2, -1)"),
        ({"w": np.ones(2, complex)}, TypeError, "['w'] must be castable to float32: ..."),
        ({"w": np.ma.ones(2)}, TypeError, f"['w'] {MASKED}"),
    ]
]
REFUSALS += [
    *[
        (partial(Flat, {"w": 2}, dtype), TypeError, f"dtype must be float32 or float64, got {dtype!r}")
        for dtype in (None, np.float16, ">f4")
    ],
    (
        partial(Flat.from_buffer, {"w": (2,)}, np.ones(3)),
        ValueError,
        "buffer must be float32 or float64 of shape (2,) like the layout, got float64 of shape (3,)",
    ),
    (partial(Flat.from_buffer, {"w": 2}, [1.0, 2.0]), TypeError, "buffer must be a NumPy array, got 'list'"),
    (partial(Flat.from_buffer, 5, np.ones(2)), TypeError, f"layout {NAMES}'int'"),
    (partial(Flat.from_buffer, MappingProxyType({"w": 2.0}), np.ones(2)), TypeError, f"layout{SHAPE}2.0"),
    (partial(FLAT.select, "x*"), KeyError, "...pattern must match one of ['w'], got 'x*'..."),
    (partial(FLAT.select, 5), TypeError, "pattern must be a string, got 5"),
]
