"""Refused hyperparameters and options of optimizers, arguments of kernels, threads and instruction sets."""

from __future__ import annotations

import copy
import math
import pickle
from functools import partial
from operator import ior, setitem

import numpy as np

import fastopt
from fastopt import SGD, Adagrad, Adam, AdamW, Momentum, RMSprop, kernels, schedules

# Hyperparameters and options -----------------------------------------------------------------------------------------

RATE, DECAY, FLAG = "a finite number >= 0", "a number in [0, 1)", "True or False"
HYPERPARAMETERS = [  # class, name, expected, values out of range, values of a wrong type
    (
        SGD,
        "lr",
        RATE,
        [-1e-9, math.nan, math.inf, -math.inf],
        ["0.1", None, 1j, [0.1], np.ones(1), np.complex128(1), np.array("x"), np.True_, True, np.ma.array(0.1)],
    ),
    (SGD, "momentum", DECAY, [-0.1, 1.0, math.nan], ["x"]),
    (SGD, "dampening", "a number in [0, 1]", [-0.1, 1.1, math.nan], [None]),
    (SGD, "weight_decay", RATE, [-1.0, math.nan, math.inf], [None]),
    (SGD, "nesterov", FLAG, [1, "yes", None], []),
    (SGD, "maximize", FLAG, [1, None], []),
    (SGD, "decoupled_weight_decay", FLAG, [0], []),
    (Momentum, "form", "'classical' or 'ema'", ["pytorch", None, 1], []),
    (RMSprop, "alpha", DECAY, [1.0, -0.5, math.nan], [None]),
    (RMSprop, "eps", RATE, [-1e-30, math.nan, math.inf], ["x"]),
    (RMSprop, "centered", FLAG, [1, "x"], []),
    (RMSprop, "eps_inside_sqrt", FLAG, [np.array(1), np.int64(1), np.ma.array(True)], []),
    (Adagrad, "lr_decay", RATE, [-0.1, math.nan], ["x"]),
    (Adam, "betas", "two numbers in [0, 1)", [], [(0.9,), 0.9, None, (0.9, 0.9, 0.9)]),
    (Adam, "eps", RATE, [-1e-30, math.nan], [None]),
    (Adam, "amsgrad", FLAG, [None, 2], []),
    (AdamW, "eps_hat", FLAG, [None, 1], []),
]
INVALID_BETAS = [  # index of the wrong one
    (1, (0.9, 1.0), ValueError),
    (0, (-0.1, 0.9), ValueError),
    (0, (math.nan, 0.9), ValueError),
    (1, (0.9, "x"), TypeError),
]
STEP_OPTIONS = [
    ("max_grad_norm", "a number > 0", [0.0, -1.0, math.nan], ["1"]),
    ("grad_scale", "a finite number > 0", [0.0, -1.0, math.nan, math.inf], [None]),
    ("zero_grads", FLAG, [1, None], []),
    ("ema_decay", DECAY, [1.0, -0.1, math.nan], ["x"]),
    ("nonfinite", "'propagate' or 'skip' or 'raise'", ["ignore", None, True], []),
    ("state_dir", "the path of a directory", [], [1, b"/"]),
    ("state_dir", "an existing directory", ["", "/does/not/exist"], []),
]
GOOD = np.ones(3)


def set_value(optimizer, name, value):
    optimizer.param_groups[0][name] = value


def hyperparameters():
    """Return rows for each invalid value: as an argument, in a group, and set later."""
    table = [
        (cls, name, "", expected, value, error)
        for cls, name, expected, *values in HYPERPARAMETERS
        for error, wrong in zip((ValueError, TypeError), values, strict=True)
        for value in wrong
    ]
    table += [(Adam, "betas", f"[{i}]", DECAY, pair, error) for i, pair, error in INVALID_BETAS]
    for cls, name, index, expected, value, error in table:
        message = f"{index} must be {expected}, got {value[int(index[1])] if index else value!r}"
        yield partial(cls, GOOD, **{name: value}), error, name + message
        yield partial(cls, [{"params": GOOD, name: value}]), error, f"params[0]['{name}']{message}"
        yield partial(set_value, cls(np.ones(3)), name, value), error, name + message


REFUSALS = [
    *hyperparameters(),
    *[
        (partial(AdamW, GOOD, **{name: value}), error, f"{name} must be {expected}, got {value!r}")
        for name, expected, *values in STEP_OPTIONS
        for error, wrong in zip((ValueError, TypeError), values, strict=True)
        for value in wrong
    ],
]

PLAIN, WITH_STATE = SGD(np.ones(2)), SGD(np.ones(2), momentum=0.5)
READ_ONLY = ["steps", "skipped", "grad_norm", "zero_grads", "ema_decay", "nonfinite", "ema", "state"]
REFUSALS += [(partial(setattr, WITH_STATE, name, 3), AttributeError, "...") for name in READ_ONLY]
REFUSALS += [
    (
        partial(copier, PLAIN),
        TypeError,
        "SGD cannot be copied or pickled because ...load the state_dict() of this one",
    )
    for copier in (copy.copy, copy.deepcopy, pickle.dumps)
]
START = "initial_accumulator_value"
NESTEROV = "nesterov must be False without a momentum or with a dampening, got True with "
REFUSALS += [
    (lambda: setitem(WITH_STATE.state, "momentum_buffer", np.ones(2)), TypeError, "..."),
    (lambda: setitem(PLAIN.param_groups, 0, {"lr": 1}), TypeError, "..."),
    (lambda: ior(PLAIN.param_groups[0], {"lr": -1}), TypeError, "..."),
    (partial(setattr, PLAIN, "lr", -1), ValueError, f"lr must be {RATE}, got -1"),
    (partial(SGD, np.ones(2), schedules.Cosine), TypeError, f"lr must be {RATE}, got <class ...Cosine...>"),
    (partial(setattr, SGD([{"params": GOOD}]), "lr", -1), ValueError, f"params[0]['lr'] must be {RATE}, got -1"),
    (partial(setattr, PLAIN, "grad_scale", 0), ValueError, "grad_scale must be a finite number > 0, got 0"),
    (partial(setattr, PLAIN, "max_grad_norm", 0), ValueError, "max_grad_norm must be a number > 0, got 0"),
    (
        partial(SGD.step, SGD(np.ones(2), ema_decay=schedules.Constant(1.0)), np.ones(2)),
        ValueError,
        "ema_decay (the result of Constant(...) at step 0) must be a number in [0, 1), got 1.0",
    ),
    (
        partial(SGD, GOOD, momentum=0.9, dampening=0.1, nesterov=True),
        ValueError,
        NESTEROV + "momentum 0.9 and dampening 0.1",
    ),
    (partial(SGD, GOOD, nesterov=True), ValueError, NESTEROV + "momentum 0.0 and dampening 0.0"),
    (partial(SGD, GOOD, dampening=0.5), ValueError, "dampening must be 0 without a momentum, got 0.5"),
    (
        partial(Adam, GOOD, momentum=0.9),
        TypeError,
        "Adam has no option 'momentum'; options are lr, betas, eps, ...nonfinite, state_dir",
    ),
    *[
        (partial(cls, GOOD, **{name: 0.5}), TypeError, f"{cls.__name__} has no option {name!r}; {hint} are lr, ...")
        for cls, hints in [
            (
                Adam,
                {
                    "learning_rate": "lr",
                    "beta1": "betas",
                    "b2": "betas",
                    "epsilon": "eps",
                    "weightdecay": "weight_decay",
                },
            ),
            (AdamW, {"wd": "weight_decay", "lambda": "weight_decay", "rho": None, "decay": None, "alpha": None}),
            (SGD, {"Momentum": "momentum", "ema_momentum": "ema_decay", "b1": None, "epsilon": None, "fused": None}),
            (RMSprop, {"rho": "alpha", "decay": "alpha", "clipnorm": "max_grad_norm", "zero_grad": "zero_grads"}),
        ]
        for name, meant in hints.items()
        for hint in [f"did you mean {meant!r}? Options" if meant else "options"]
    ],
    (
        partial(set_value, PLAIN, "learning_rate", 1),
        TypeError,
        "SGD has no option 'learning_rate'; did you mean 'lr'? Options are lr, ...",
    ),
    (
        partial(SGD, [{"params": GOOD, 3: 1.0}]),
        TypeError,
        "SGD, in params[0], has no option 3; options are ...",
    ),
    (
        partial(SGD, [{"params": np.ones(1)}, {"params": np.ones(1), "betas": (0.9, 0.99)}]),
        TypeError,
        "SGD, in params[1], has no option 'betas'; options are lr, momentum, ...",
    ),
    (
        partial(SGD, [{"params": GOOD, "max_grad_norm": 1.0}]),
        TypeError,
        "SGD, in params[0], has no option 'max_grad_norm'; options are ...",
    ),
    (partial(set_value, PLAIN, "beta", 1), TypeError, "SGD has no option 'beta'; options are ..."),
    (lambda: PLAIN.param_groups[0].pop("lr"), TypeError, "lr cannot be removed from a group"),
    (lambda: PLAIN.param_groups[0].update(weight_decay=0.5, lr=-1), ValueError, f"lr must be {RATE}, got -1"),
    *[
        (partial(Adagrad, GOOD, initial_accumulator_value=value), error, f"{START} must be {RATE}, got ...")
        for value, error in [(-1, ValueError), (math.inf, ValueError), (None, TypeError), (lambda step: 1, TypeError)]
    ],
    *[
        (
            partial(Adagrad, np.ones(3, np.float32), initial_accumulator_value=value),
            ValueError,
            f"{START} must be within the range of float32, got {value}",
        )
        for value in (1e39, 1e-46)
    ],
    (
        partial(set_value, Adagrad(GOOD), START, 1.0),
        TypeError,
        f"Adagrad has no option {START!r}; options are lr, lr_decay, weight_decay, eps, ...",
    ),
    (
        partial(set_value, Adam(GOOD), "amsgrad", True),
        ValueError,
        "amsgrad must not change the states, got values that need those of 'amsgrad' instead of 'adam': ...",
    ),
]

# Schedules and coefficients ------------------------------------------------------------------------------------------


def scheduled(value):
    """Return an optimizer whose rate is invalid in the third step, after two steps."""
    optimizer = Adam(np.ones(4), lr=lambda step: 0.1 if step < 2 else value, zero_grads=True)
    for _ in range(2):
        optimizer.step(np.ones(4))
    return optimizer


def raising_schedule(step):
    raise LookupError("no rate")


REFUSALS += [
    (
        partial(Adam.step, scheduled(value), np.ones(4)),
        error,
        f"lr (the result of <function ...> at step 2) must be {RATE}, got {value!r}",
    )
    for error, values in [
        (ValueError, [math.nan, math.inf, -1.0]),
        (TypeError, ["0.1", None, 1j, [0.1], np.ones(2), True]),
    ]
    for value in values
]
REFUSALS += [
    (partial(Adam.step, Adam(np.ones(4), **{name: value}), np.ones(4)), error, message)
    for name, value, error, message in [
        ("eps", lambda step: -1, ValueError, f"eps (the result of <function ...> at step 0) must be {RATE}, got -1"),
        (
            "betas",
            (0.9, lambda step: 1.0),
            ValueError,
            f"betas[1] (the result of <function ...> at step 0) must be {DECAY}, got 1.0",
        ),
        ("lr", raising_schedule, LookupError, "no rate"),
    ]
]
REFUSALS += [
    (
        partial(SGD.step, SGD(np.ones(4, real), **options), np.full(4, grad, real)),
        ValueError,
        f"the coefficient {name!r}, computed from the hyperparameters, must be within the range of {real}, got {value}",
    )
    for name, value, real, options, grad in [
        ("step_size", "1e+300", "float32", {"lr": 1e300}, 1),
        ("scale", "1e-47", "float32", {"grad_scale": 1e47}, 1),
        ("scale", "1...e-47", "float32", {"max_grad_norm": 1e-8}, 3e38),
        ("scale", "1e+40", "float32", {"grad_scale": 1e-40}, 1),
        ("scale", "inf", "float64", {"grad_scale": 5e-324}, 1),
    ]
]

# Kernels -------------------------------------------------------------------------------------------------------------

A, B, C, D, READ = (np.ones(4) for _ in range(5))
E = np.ones(8)
READ.flags.writeable = False
CALLED = "kernels.sgd must be called as sgd(param...): "
REFUSALS += [
    (
        lambda: kernels.adam(A, B, C, D, step=1, amsgrad=True),
        TypeError,
        "kernels.adam must have param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq for ..., got ..., exp_avg_sq",
    ),
    (
        lambda: kernels.adam(A, B, step=1),
        TypeError,
        "kernels.adam must be called as adam(param...): missing a required ...'exp_avg'",
    ),
    (lambda: kernels.sgd(A, B, C, D, step=1), TypeError, CALLED + "too many positional arguments"),
    (
        lambda: kernels.sgd(A, B, C, step=1),
        TypeError,
        "kernels.sgd must have param, grad for these hyperparameters, got param, grad, momentum_buffer",
    ),
    (lambda: kernels.sgd(A, B, param=C, step=1), TypeError, CALLED + "multiple values for argument 'param'"),
    (lambda: kernels.sgd(A, B), TypeError, CALLED + "missing a required ...'step'"),
    (lambda: kernels.sgd(A, B, step=0), ValueError, "step must be an int >= 1, got 0"),
    (lambda: kernels.sgd(A, B, step=1.0), TypeError, "step must be an int >= 1, got 1.0"),
    (lambda: kernels.sgd(A, B, step=1, scale=math.nan), ValueError, "scale must be a finite number, got nan"),
    (lambda: kernels.sgd(A, B, step=1, lr=lambda step: 1), TypeError, f"lr must be {RATE}, got <function ...>"),
    (
        lambda: kernels.sgd(A, B, step=1, lr=schedules.Constant(0.1)),
        TypeError,
        f"lr must be {RATE}, got Constant(value=0.1)",
    ),
    (
        lambda: kernels.adam(A, B, C, D, step=1, betas=(schedules.Constant(0.9), 0.999)),
        TypeError,
        f"betas[0] must be {DECAY}, got Constant(value=0.9)",
    ),
    (lambda: kernels.sgd(A, B, step=1, beta=1), TypeError, CALLED + "got an unexpected keyword argument 'beta'"),
    (lambda: kernels.sgd(A, B, step=1, lr=-1), ValueError, f"lr must be {RATE}, got -1"),
    (lambda: kernels.sgd(A, B, None, 1), TypeError, CALLED + "too many positional arguments"),
    (lambda: kernels.sgd(A, A, step=1), ValueError, "grad and param overlap in memory"),
    (lambda: kernels.sgd(E[1:5], E[:4], step=1), ValueError, "grad and param overlap in memory"),
    (lambda: kernels.adam(A, B, C, B, step=1), ValueError, "grad and exp_avg_sq overlap in memory"),
    (lambda: kernels.adam(A, E[1:5], C, E[4:], step=1), ValueError, "grad and exp_avg_sq overlap in memory"),
    (lambda: kernels.adam(E[4:], A, B, E[1:5], step=1), ValueError, "exp_avg_sq and param overlap in memory"),
    (lambda: kernels.adam(A, B, E[:4], E[3:7], step=1), ValueError, "exp_avg and exp_avg_sq overlap in memory"),
    (
        lambda: kernels.sgd(A, np.ones(4, np.float32), step=1),
        TypeError,
        "grad must have dtype float64 as its parameter, ...",
    ),
    (
        lambda: kernels.sgd(E[::2], A, step=1),
        ValueError,
        "param must be contiguous, with its axes in any order, got shape (4,) with strides (16,) bytes",
    ),
    (lambda: kernels.sgd(READ, A, step=1), ValueError, "param must be writable, got a read-only array"),
    (
        lambda: kernels.momentum(A, B, READ, step=1),
        ValueError,
        "momentum_buffer must be writable, got a read-only array",
    ),
    *[
        (
            partial(kernels.rmsprop, *(np.ones(4, real) for _ in range(3)), **{"step": 1, **options}),
            ValueError,
            f"the coefficient {name!r}, computed from the hyperparameters, must be within the range of {real}, got ...",
        )
        for name, real, options in [
            ("eps", "float32", {"eps": 1e39}),
            ("step_size", "float32", {"lr": 1e39}),
            ("scale", "float32", {"scale": 1e-46}),
            ("param_decay", "float64", {"lr": 1e300, "weight_decay": 1e300, "decoupled_weight_decay": True}),
        ]
    ],
    (
        lambda: kernels.momentum(A, B, C[:3], step=1),
        ValueError,
        "momentum_buffer must have shape (4,) as its parameter, got (3,)",
    ),
]

# Threads and instruction sets ----------------------------------------------------------------------------------------

REFUSALS += [
    (partial(setter, value), ValueError, f"{expected}, got {value!r}")
    for setter, expected, values in [
        (
            fastopt.set_num_threads,
            "n must be 'auto' or an int from 1 to 1024",
            [0, -1, 1025, 1.0, 1.5, True, "two", None],
        ),
        (fastopt.set_threading_layer, "name must be 'pool' or 'openmp'", ["tbb"]),
        (
            fastopt.set_isa,
            "name must be an instruction set of this machine (...baseline)",
            ["mmx", "neon", "AVX2", "", None, 2],
        ),
    ]
    for value in values
]
