"""Refused arguments of ``Keyed``, and the states that it refuses to load."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastopt import SGD, Adam, Keyed, Optimizer

RATE = "a finite number >= 0"
KEY = "a string, a number, None or a tuple of these"


def keyed(**options):
    """Return a ``Keyed`` with a key that has had a step."""
    made = Keyed(Adam, **options)
    made("w", np.ones((2, 3)), np.ones((2, 3)))
    return made


UPDATE, COPYING = keyed(), keyed(copy=True)
W, G = np.ones((2, 3)), np.ones((2, 3))
CLASS = "optimizer must be a class of fastopt.optimizers, got "
FIRST = "params must have shape (2, 3) and dtype float64 as in the first call with this key, got "
REFUSALS = [
    (partial(Keyed, "Adam"), TypeError, CLASS + "'Adam'"),
    (partial(Keyed, Optimizer), TypeError, CLASS + "<class 'fastopt...Optimizer'>"),
    (lambda: Keyed(SGD(np.zeros(2))), TypeError, CLASS + "SGD(...)"),
    (partial(Keyed, SGD, copy=1), ValueError, "copy must be True or False, got 1"),
    (partial(Keyed, SGD, params=W), TypeError, "params must not be given, got array(...)"),
    (partial(Keyed, SGD, state_dir="."), TypeError, "state_dir must not be given, got '.'"),
    (partial(Keyed, SGD, lr=-1), ValueError, f"lr must be {RATE}, got -1"),
    (partial(Keyed, SGD, betas=(0.1, 0.2)), TypeError, "SGD has no option 'betas'; options are ..."),
    (partial(UPDATE, "w", np.ones((3, 2)), G), ValueError, FIRST + "(3, 2) and float64"),
    (partial(UPDATE, "w", np.ones((2, 3), np.float32), G), ValueError, FIRST + "(2, 3) and float32"),
    (partial(COPYING, "w", np.ones(2), G), ValueError, FIRST + "(2,) and float64"),
    *[
        (partial(update, key, [1.0], [1.0]), TypeError, "params must be a NumPy array, got builtins.list")
        for update in (UPDATE, COPYING)
        for key in ("w", "new")
    ],
    (
        partial(UPDATE, "w", np.ma.masked_array(W, W > 2), G),
        TypeError,
        "params must be an array without a mask, got a masked array",
    ),
    (
        partial(UPDATE, "w", np.ones((2, 6))[:, ::2], G),
        ValueError,
        "params must be contiguous, with its axes in any order, got shape (2, 3) with strides (48, 16) bytes",
    ),
    (partial(UPDATE, "w", W, np.ones(3)), ValueError, "grads must have shape (2, 3) as its parameter, got (3,)"),
    (partial(UPDATE, "new", W, None), TypeError, "grads must be an array like the parameters, got None"),
    (partial(UPDATE, ["w"], W, G), TypeError, "unhashable type: 'list'"),
    (partial(setattr, UPDATE, "lr", -1), ValueError, f"lr must be {RATE}, got -1"),
    (partial(setattr, UPDATE, "max_grad_norm", 0), ValueError, "max_grad_norm must be a number > 0, got 0"),
    (partial(UPDATE.set, lr=0.1, eps=-1), ValueError, f"eps must be {RATE}, got -1"),
    (partial(UPDATE.set, momentum=0.1), TypeError, "Adam has no option 'momentum'; options are ..."),
    (partial(UPDATE.set, amsgrad=True), ValueError, "amsgrad must not change the states, got values that need ..."),
    (
        UPDATE.__reduce__,
        TypeError,
        "Keyed cannot be copied or pickled: make a new one and load the state_dict() of this one",
    ),
]


def with_key(key):
    made = Keyed(SGD)
    made(key, np.ones(2), np.ones(2))
    return made


REFUSALS += [
    (with_key(key).state_dict, TypeError, f"a key to be saved must be {KEY}, got {got}")
    for key, got in ((b"w", "b'w'"), (("w", frozenset()), "frozenset()"))
]


def state_dicts():
    """Return a ``state_dict`` that is broken in one place, the error and the message."""
    saved = keyed().state_dict()
    array = saved["arrays"][0]
    place = "state_dict['arrays'][0]"

    def with_array(**changes):
        return {**saved, "arrays": [{**array, **changes}]}

    state = f"{place}['optimizer']['param_groups'][0]['state']['exp_avg']"
    return [
        ([], TypeError, "state_dict must be a mapping, got 'list'"),
        (saved["template"], ValueError, "state_dict must have the keys ['arrays', 'template'], got ..."),
        ({**saved, "template": 1}, TypeError, "state_dict['template'] must be a mapping, got 'int'"),
        ({**saved, "arrays": 1}, TypeError, "state_dict['arrays'] must be a list, got 'int'"),
        ({**saved, "arrays": [1]}, TypeError, f"{place} must be a mapping, got 'int'"),
        (
            {**saved, "arrays": [array, array]},
            ValueError,
            "state_dict['arrays'][1]['key'] must differ from the others, got 'w'",
        ),
        (
            with_array(key={}),
            TypeError,
            f"{place}['key'] must be {KEY}, got {{}}",
        ),
        (with_array(dtype="int8"), ValueError, f"{place}['dtype'] must be 'float32' or 'float64', got 'int8'"),
        *[
            (with_array(shape=shape), ValueError, f"{place} must describe an array, got shape {shape}: ...")
            for shape in ([2, -3], ["x"], {}, [2**62, 2**62], [2**45])
        ],
        (with_array(shape=[6]), ValueError, f"{state} must be float64 of shape (6,), got float64 of (2, 3)"),
        (with_array(dtype="float32"), ValueError, f"{state} must be float32 of shape (2, 3), got float64 of (2, 3)"),
        (with_array(optimizer=[]), TypeError, f"{place}['optimizer'] must be a mapping, got 'list'"),
    ]


REFUSALS += [(partial(UPDATE.load_state_dict, broken), error, message) for broken, error, message in state_dicts()]
REFUSALS += [
    (
        partial(UPDATE.load_state_dict, with_key("w").state_dict()),
        ValueError,
        "state_dict['template']['param_groups'][0] must have the keys ...",
    ),
]
