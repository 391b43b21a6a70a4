"""Refused states of optimizers, schedules and loss scales, and what early stopping refuses."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from cases import read_only

from fastopt import SGD, Adam, DynamicLossScale, EarlyStopping, Flat
from fastopt.schedules import Plateau

W, B = np.ones((2, 3), np.float32), np.ones(3, np.float32)
WB = {"w": W, "b": B}

# Optimizers ----------------------------------------------------------------------------------------------------------

FIRST = "state_dict['param_groups'][0]"


def optimizer(steps=1):
    made = Adam({"w": np.ones((2, 2), np.float32), "b": np.ones(3, np.float32)})
    for _ in range(steps):
        made.step({"w": np.ones((2, 2), np.float32), "b": np.ones(3, np.float32)})
    return made


def state_dicts():
    """Return a ``state_dict`` that is broken in one place, the error and the message."""
    saved = optimizer(3).state_dict()
    group = saved["param_groups"][0]
    w, b = group["state"]["exp_avg"]["w"], group["state"]["exp_avg"]["b"]

    def with_group(**changes):
        return {**saved, "param_groups": [{**group, **changes}]}

    def with_second(second):
        return with_group(state={**group["state"], "exp_avg_sq": second})

    second = f"{FIRST}['state']['exp_avg_sq']"
    missing = "got ['exp_avg', 'exp_avg_sq'] missing and [] extra"
    return [
        ([], TypeError, "state_dict must be a mapping, got 'list'"),
        (
            {"steps": 1},
            ValueError,
            "state_dict must have the keys [...], got ['grad_scale', 'micro_steps', 'param_groups', 'skipped'] ...",
        ),
        ({**saved, "steps": -1}, ValueError, "state_dict['steps'] must be an int >= 0, got -1"),
        ({**saved, "steps": 2**62}, ValueError, f"state_dict['steps'] must be an int < 2**62, got {2**62}"),
        ({**saved, "steps": 1.5}, TypeError, "state_dict['steps'] must be an int >= 0, got 1.5"),
        ({**saved, "skipped": True}, TypeError, "state_dict['skipped'] must be an int >= 0, got True"),
        ({**saved, "grad_scale": 0}, ValueError, "state_dict['grad_scale'] must be a finite number > 0, got 0"),
        ({**saved, "param_groups": 3}, TypeError, "state_dict['param_groups'] must be a list, got 'int'"),
        ({**saved, "param_groups": []}, ValueError, "state_dict['param_groups'] must have 1 groups, got 0"),
        ({**saved, "param_groups": [1]}, TypeError, f"{FIRST} must be a mapping, got 'int'"),
        (
            with_group(momentum=0.9),
            ValueError,
            f"{FIRST} must have the keys [...], got [] missing and ['momentum'] extra",
        ),
        (with_group(lr=-1.0), ValueError, f"{FIRST}['lr'] must be a finite number >= 0, got -1.0"),
        (
            with_group(amsgrad=True),
            ValueError,
            "amsgrad must not change the states, got values that need those of 'amsgrad'...",
        ),
        (with_group(missed_steps=[]), TypeError, f"{FIRST}['missed_steps'] must be a mapping, got 'list'"),
        (
            with_group(missed_steps={"w": 1}),
            ValueError,
            f"{FIRST}['missed_steps'] must have keys among [\"['w']\", \"['b']\"], got 'w'",
        ),
        (
            with_group(missed_steps={"['w']": 4}),
            ValueError,
            f"{FIRST}['missed_steps'][\"['w']\"] must be at most the number of steps, 3, got 4",
        ),
        (
            with_group(missed_steps={"['w']": -1}),
            ValueError,
            f"{FIRST}['missed_steps'][\"['w']\"] must be an int >= 0, got -1",
        ),
        (with_group(state=None), TypeError, f"{FIRST}['state'] must be a mapping, got 'NoneType'"),
        (with_group(state={}), ValueError, f"{FIRST}['state'] must have the keys [...], {missing}"),
        (with_second([w, b]), TypeError, f"{second} must be a mapping with the names ['w', 'b'], got 'list'"),
        (
            with_second({"w": w}),
            ValueError,
            f"{second} must have the names ['w', 'b'], got ['b'] missing and [] extra",
        ),
        (
            with_second({"w": w, "b": b[:1]}),
            ValueError,
            f"{second}['b'] must be float32 of shape (3,), got float32 of (1,)",
        ),
        (
            with_second({"w": w, "b": b.astype("f8")}),
            ValueError,
            f"{second}['b'] must be float32 of shape (3,), got float64 of (3,)",
        ),
        (with_second({"w": w, "b": [1.0] * 3}), TypeError, f"{second}['b'] must be an array, got 'list'"),
        (
            with_second({"w": w, "b": np.ma.array(b)}),
            TypeError,
            f"{second}['b'] must be an array without a mask, got a masked array",
        ),
    ]


REFUSALS = [
    (partial(Adam.load_state_dict, optimizer(), state_dict), error, message)
    for state_dict, error, message in state_dicts()
]


def with_schedule(state):
    saved = SGD(B, lr=Plateau(0.1)).state_dict()
    saved["param_groups"][0]["lr"] = state
    return {**saved, "steps": 5}


MISSING = "got ['bad_epochs', 'best', 'cooldown_left'] missing and [] extra"
REFUSALS += [
    (partial(SGD.load_state_dict, SGD(B, lr=Plateau(0.1)), with_schedule(state)), error, FIRST + message)
    for state, error, message in [
        ([], TypeError, "['lr'] must be a finite number >= 0, got []"),
        ([{}, {}], ValueError, "['lr'] must be a list of 1 states, one of each stateful schedule, got [{}, {}]"),
        ([{"value": 0.1}], ValueError, f"['lr'][0] must have the keys [...], {MISSING}"),
        (
            [{"value": "x", "best": 1, "bad_epochs": 0, "cooldown_left": 0}],
            TypeError,
            "['lr'][0]['value'] must be a finite number, got 'x'",
        ),
    ]
]

# Dynamic loss scaling ------------------------------------------------------------------------------------------------

ADAM = Adam(np.ones(3), nonfinite="skip")
SCALE = DynamicLossScale(Adam(np.ones(3), nonfinite="skip"))
REFUSALS += [
    (partial(DynamicLossScale, B), TypeError, "optimizer must be a fastopt.Optimizer, got 'ndarray'"),
    (
        partial(DynamicLossScale, Adam(np.ones(3))),
        ValueError,
        "optimizer must have nonfinite='skip', got nonfinite='propagate'",
    ),
    *[
        (partial(DynamicLossScale, ADAM, **{name: value}), error, f"{name} must be {expected}, got {value!r}")
        for name, value, error, expected in [
            ("init_scale", 0.0, ValueError, "a number from 2**-126 to 2**127"),
            ("init_scale", "1", TypeError, "a number from 2**-126 to 2**127"),
            ("growth_factor", 0.5, ValueError, "a finite number >= 1"),
            ("backoff_factor", 2.0, ValueError, "a number > 0 and <= 1"),
            ("backoff_factor", 0.0, ValueError, "a number > 0 and <= 1"),
            ("growth_interval", 0, ValueError, "an int >= 1"),
        ]
    ],
    *[
        (partial(DynamicLossScale.load_state_dict, SCALE, state), ValueError, f"state_dict{message}")
        for state, message in [
            ({"scale": 1.0}, " must have the keys ['good_steps', 'scale'], got ['good_steps'] missing and [] extra"),
            ({"scale": math.nan, "good_steps": 0}, "['scale'] must be a number from 2**-126 to 2**127, got nan"),
            ({"scale": 1.0, "good_steps": -1}, "['good_steps'] must be an int >= 0, got -1"),
        ]
    ],
]

# Early stopping ------------------------------------------------------------------------------------------------------


def stopping(params, metric=2.0):
    """Return an ``EarlyStopping`` with a copy of some parameters."""
    early_stopping = EarlyStopping()
    early_stopping.update(metric, params)
    return early_stopping


NOT_ARRAY = "must be an array (something with ...), got "
MASKED = "must be an array without a mask, got a masked array"
OTHER_PARAMS = [  # parameters of the first update, then those that update and restore must refuse
    (WB, {"w": W, "b": B[:2]}, ValueError, "params['b'] must be float32 of shape (3,), got float32 of (2,)"),
    (WB, {"w": W, "b": B.astype(float)}, ValueError, "params['b'] must be float32 of shape (3,), got float64 of (3,)"),
    (WB, {"w": W}, ValueError, "params must have the names ['w', 'b'], got ['b'] missing and [] extra"),
    (WB, [W, B], TypeError, "params must be a mapping with the names ['w', 'b'], got 'list'"),
    ([W, B], [W], ValueError, "params must have 2 items like the parameters, got 1"),
    ([W, B], W, TypeError, "params must be a list or tuple like the parameters, got 'ndarray'"),
    (W[:1], [W[0]], TypeError, "params must be an array, got 'list'"),
    (W, [W], TypeError, "params must be an array, got 'list'"),
    (WB, {"w": W, "b": np.ma.array(B)}, TypeError, f"params['b'] {MASKED}"),
    (WB, {"w": W, "b": B.astype(int)}, TypeError, "params['b'] must have dtype float32 or float64, got int64"),
    (WB, {"w": W[:, :1], "b": B}, ValueError, "params['w'] must be contiguous, with its axes in any order, got ..."),
    (WB, {"w": W, "b": 1.0}, TypeError, f"params['b'] {NOT_ARRAY}'float'"),
    (Flat({"w": 2}), Flat({"v": 2}), ValueError, "params must have the names ['w'], got ['w'] missing and ['v'] extra"),
]
REFUSALS += [
    (partial(call, stopping(first), *metric, params), error, message)
    for first, params, error, message in OTHER_PARAMS
    for call, *metric in ((EarlyStopping.update, 1.0), (EarlyStopping.update, 3.0), (EarlyStopping.restore,))
]
FIXED_B = read_only(2 * B)  # update only reads it
REFUSALS += [
    *[
        (
            partial(EarlyStopping.update, EarlyStopping(), metric, W),
            TypeError,
            f"metric must be a number, got {metric!r}",
        )
        for metric in ("1", None, True, [1.0], 1j, np.timedelta64(1, "s"), np.ma.array(1.0))
    ],
    *[
        (partial(EarlyStopping.update, EarlyStopping(), 1.0, params), error, f"params{message}")
        for params, error, message in [
            (3.0, TypeError, f" {NOT_ARRAY}'float'"),
            ({"w": 1}, TypeError, f"['w'] {NOT_ARRAY}'int'"),
            ([W, "b"], TypeError, f"[1] {NOT_ARRAY}'str'"),
            (W.astype(int), TypeError, " must have dtype float32 or float64, got int64"),
            ([W, W], ValueError, "[0] and params[1] overlap in memory"),
        ]
    ],
    (
        partial(EarlyStopping.restore, stopping({"w": W, "b": FIXED_B}), {"w": 5 * W, "b": FIXED_B}),
        ValueError,
        "params['b'] must be writable, got a read-only array",
    ),
    *[
        (partial(EarlyStopping, **{name: value}), error, f"{name} must be {expected}, got {value!r}")
        for name, value, error, expected in [
            ("patience", 0, ValueError, "an int >= 1"),
            ("patience", 2.0, TypeError, "an int >= 1"),
            ("patience", np.timedelta64(3, "s"), TypeError, "an int >= 1"),
            ("patience", np.array([3]), TypeError, "an int >= 1"),
            ("patience", np.ma.array(3), TypeError, "an int >= 1"),
            ("min_delta", -0.1, ValueError, "a finite number >= 0"),
            ("min_delta", math.inf, ValueError, "a finite number >= 0"),
            ("mode", "auto", ValueError, "'min' or 'max'"),
            ("start_from_epoch", -1, ValueError, "an int >= 0"),
        ]
    ],
    (partial(EarlyStopping.load_state_dict, stopping(WB), []), TypeError, "state_dict must be a mapping, got 'list'"),
]

NONE_OR_BOTH = "['params'] must be None if and only if best_epoch is None, got "
EPOCHS = " must have best_epoch + 1 + bad_epochs <= epochs (None counts as -1), got "
SAVED = stopping({"w": 2 * W, "b": 2 * B}, 5.0).state_dict()
REFUSALS += [
    (partial(EarlyStopping.load_state_dict, stopping(WB), {**SAVED, **change}), error, f"state_dict{message}")
    for change, error, message in [
        ({"best": None}, TypeError, "['best'] must be a number, not NaN, got None"),
        ({"best": math.nan}, ValueError, "['best'] must be a number, not NaN, got nan"),
        ({"best_epoch": -1}, ValueError, "['best_epoch'] must be an int >= 0, got -1"),
        ({"best_epoch": None}, ValueError, f"{NONE_OR_BOTH}'dict' with best_epoch None"),
        ({"epochs": 1.5}, TypeError, "['epochs'] must be an int >= 0, got 1.5"),
        ({"bad_epochs": True}, TypeError, "['bad_epochs'] must be an int >= 0, got True"),
        ({"params": None}, ValueError, f"{NONE_OR_BOTH}'NoneType' with best_epoch 0"),
        ({"params": {"w": [1.0]}}, TypeError, f"['params']['w'][0] {NOT_ARRAY}'float'"),
        ({"params": {"w": np.ma.array(W)}}, TypeError, f"['params']['w'] {MASKED}"),
        ({"params": 1.0}, TypeError, f"['params'] {NOT_ARRAY}'float'"),
        ({"best_epoch": 7}, ValueError, f"{EPOCHS}{{...'best_epoch': 7..."),
        ({"bad_epochs": 1}, ValueError, f"{EPOCHS}{{...'bad_epochs': 1}}"),
        ({"patience": 3}, ValueError, " must have the keys ['bad_epochs', ...], got [] missing and ['patience'] extra"),
        (
            {"params": None, "best_epoch": None, "epochs": 0, "bad_epochs": 7},
            ValueError,
            f"{EPOCHS}{{...'bad_epochs': 7}}",
        ),
    ]
]
