"""Promise: a call that cannot be done raises an error that names the argument, the expectation and the value, and
changes no byte of any argument.

``REFUSALS`` is the table. A row is a name, the call, its arguments, the type of the error and its message, in which
``...`` stands for any text. To test another refusal, add a row; nothing else is needed. The arguments are passed by
position, and every array, container and optimizer among them is compared before and after the call.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import Foreign, leaves

import fastopt
from fastopt import kernels


class Refusal(NamedTuple):
    """A call that must raise."""

    name: str
    call: Callable[..., object]
    arguments: tuple[Any, ...]
    error: type[Exception]
    message: str


class InvalidInterface:
    """An object with an ``__array_interface__`` without data."""

    __array_interface__ = {"version": 3}  # noqa: RUF012


def read_only(array):
    array.flags.writeable = False
    return array


def misaligned(size, dtype=np.float32):
    return np.zeros(size * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype)


def byte_swapped(size):
    return np.ones(size, np.dtype(np.float32).newbyteorder())


def hyperparameters(value):
    if isinstance(value, fastopt.Optimizer):
        return [dict(group) for group in value.param_groups]
    return None


def snapshot(*values):
    """Return the bytes of all arrays in some values, and the hyperparameters of optimizers among them."""
    return [array.tobytes() for array in leaves(values)], [repr(hyperparameters(value)) for value in values]


# Parameters ----------------------------------------------------------------------------------------------------------

NOT_ARRAY = "NAME must be an array (something with the buffer protocol or __array_interface__), got "
NOT_REAL = "NAME must have dtype float32 or float64, got "
INVALID_PARAMS = [
    ("None", None, TypeError, NOT_ARRAY + "'NoneType'"),
    ("number", 1.0, TypeError, NOT_ARRAY + "'float'"),
    ("generator", (x for x in [np.zeros(2)]), TypeError, NOT_ARRAY + "'generator'"),
    ("string", "w", TypeError, NOT_ARRAY + "'str'"),
    ("bytes", bytearray(8), TypeError, NOT_REAL + "'B'"),
    ("int64", np.arange(4), TypeError, NOT_REAL + "int64"),
    ("float16", np.ones(4, np.float16), TypeError, NOT_REAL + "float16"),
    ("complex64", np.ones(4, np.complex64), TypeError, NOT_REAL + "complex64"),
    ("longdouble", np.ones(4, np.longdouble), TypeError, NOT_REAL + str(np.dtype(np.longdouble))),
    ("datetime64", np.zeros(4, "M8[s]"), TypeError, NOT_REAL + "datetime64[s] (...)"),
    ("object", np.array([1.0, None]), TypeError, NOT_REAL + "object"),
    ("structured", np.zeros(4, [("x", "f4")]), TypeError, NOT_REAL + "[('x', '<f4')]"),
    ("byte-swapped", byte_swapped(4), TypeError, NOT_REAL + f"{byte_swapped(4).dtype.str} (byte-swapped)"),
    (
        "every other element",
        np.ones(8)[::2],
        ValueError,
        "NAME must be C-contiguous, got shape (4,) with strides (16,) bytes",
    ),
    ("reversed", np.ones(8)[::-1], ValueError, "NAME must be C-contiguous, got shape (8,) with strides (-8,) bytes"),
    (
        "transposed",
        np.ones((2, 3)).T,
        ValueError,
        "NAME must be C-contiguous, got shape (3, 2) with strides (8, 24) bytes",
    ),
    (
        "broadcast",
        np.broadcast_to(np.ones(3), (2, 3)),
        ValueError,
        "NAME must be C-contiguous, got shape (2, 3) with strides (0, 8) bytes",
    ),
    ("read-only", read_only(np.ones(4)), ValueError, "NAME must be writable, got a read-only array"),
    ("NumPy scalar", np.float32(1), ValueError, "NAME must be writable, got a read-only array"),
    ("misaligned", misaligned(4), ValueError, "NAME must be aligned to 4 bytes, got address 0x..."),
    ("foreign read-only", Foreign(read_only(np.ones(3))), ValueError, "NAME must be writable, got a read-only array"),
    ("foreign int64", Foreign(np.arange(3)), TypeError, NOT_REAL + "int64"),
    ("masked", np.ma.ones(3), TypeError, "NAME must be an array without a mask, got a masked array"),
    ("invalid interface", InvalidInterface(), TypeError, "NAME must have a valid __array_interface__: ..."),
]
GOOD = np.ones(3)

REFUSALS = [
    Refusal(
        f"params {path or 'alone'}, {name}", fastopt.Adam, (params,), error, message.replace("NAME", f"params{path}")
    )
    for name, bad, error, message in INVALID_PARAMS
    for path, params in [
        ("", bad),
        ("[1]", [GOOD, bad]),
        ("['w']", {"a": GOOD, "w": bad}),
        ("['a'][1][0]", {"a": [GOOD, (bad,)]}),
        ("[1]['w']", [{"params": GOOD}, {"params": {"w": bad}}]),
    ]
]

MEMORY = np.ones(10)
FLAT = fastopt.Flat({"w": (2, 2), "b": 2})
REFUSALS += [
    Refusal(
        "params, list of numbers",
        fastopt.Adam,
        ([1.0, 2.0],),
        TypeError,
        NOT_ARRAY.replace("NAME", "params[0]") + "'float'",
    ),
    Refusal(
        "params that overlap",
        fastopt.SGD,
        ({"a": MEMORY[:6], "b": MEMORY[5:]},),
        ValueError,
        "params['a'] and params['b'] overlap in memory",
    ),
    Refusal(
        "params that overlap in a nested container",
        fastopt.SGD,
        ({"a": [MEMORY[:6]], "b": {"c": (MEMORY[5:],)}},),
        ValueError,
        "params['a'][0] and params['b']['c'][0] overlap in memory",
    ),
    Refusal(
        "params that overlap in groups",
        fastopt.SGD,
        ([{"params": MEMORY}, {"params": [MEMORY]}],),
        ValueError,
        "params[0] and params[1][0] overlap in memory",
    ),
    Refusal(
        "params that overlap inside a Flat",
        fastopt.SGD,
        ([FLAT, FLAT["b"]],),
        ValueError,
        "params[0] and params[1] overlap in memory",
    ),
    Refusal(
        "params, group without params",
        fastopt.SGD,
        ([{"params": GOOD}, {"lr": 1.0}],),
        TypeError,
        "params[1] must be a group dict with 'params' like the others, got {'lr': 1.0}",
    ),
    Refusal(
        "params, array beside a group",
        fastopt.SGD,
        ([{"params": GOOD}, GOOD],),
        TypeError,
        "params[1] must be a group dict with 'params' like the others, got array(...)",
    ),
]

# Gradients -----------------------------------------------------------------------------------------------------------

NOT_FLOAT32 = "must have dtype float32 as its parameter, got "
INVALID_GRADS = [
    ("list", lambda p: [1.0] * 4, TypeError, "must be an array (something with ...), got 'list'"),
    ("float64", lambda p: np.ones(4), TypeError, NOT_FLOAT32 + "float64"),
    ("int32", lambda p: np.ones(4, np.int32), TypeError, NOT_FLOAT32 + "int32"),
    ("byte-swapped", lambda p: byte_swapped(4), TypeError, NOT_FLOAT32 + "... (byte-swapped)"),
    ("short", lambda p: np.ones(3, "f"), ValueError, "must have shape (4,) as its parameter, got (3,)"),
    ("empty", lambda p: np.ones(0, "f"), ValueError, "must have shape (4,) as its parameter, got (0,)"),
    (
        "two-dimensional",
        lambda p: np.ones((2, 2), "f"),
        ValueError,
        "must have shape (4,) as its parameter, got (2, 2)",
    ),
    ("zero-dimensional", lambda p: np.ones((), "f"), ValueError, "must have shape (4,) as its parameter, got ()"),
    ("every other element", lambda p: np.ones(8, "f")[::2], ValueError, "must be C-contiguous, got ..."),
    ("broadcast", lambda p: np.broadcast_to(np.float32(1), 4), ValueError, "must be C-contiguous, got ..."),
    ("masked", lambda p: np.ma.ones(4, "f"), TypeError, "must be an array without a mask, got a masked array"),
    ("misaligned", lambda p: misaligned(4), ValueError, "must be aligned to 4 bytes, got address 0x..."),
    ("parameter itself", lambda p: p, ValueError, "and params... overlap in memory"),
    ("overlaps the end", lambda p: p.base[6:10], ValueError, "and params... overlap in memory"),
    ("overlaps the start", lambda p: p.base[:4], ValueError, "and params... overlap in memory"),
]
ALL_STAGES = {"ema_decay": 0.9, "zero_grads": True, "max_grad_norm": 1.0}


def step(optimizer, *grads):
    optimizer.step(*grads)


def accumulate(optimizer, grads):
    optimizer.accumulate(grads)


def gradient_rows():
    """Return rows for each invalid gradient, in several structures, with and without the options of a step."""
    for name, make, error, message in INVALID_GRADS:
        for path, structure in [
            ("", lambda x: x),
            ("[1]", lambda x: [np.ones(2), x]),
            ("['w']", lambda x: {"b": np.ones(2), "w": x}),
            ("['w'][1]", lambda x: {"b": np.ones(2), "w": [np.ones(1), x]}),
        ]:
            for call, options in ((step, {}), (step, ALL_STAGES), (accumulate, {})):
                param = np.ones(10, np.float32)[3:7]
                optimizer = fastopt.Adam(structure(param), **options)
                optimizer.step(structure(np.full(4, 0.5, np.float32)))
                arguments = (optimizer, structure(make(param)))
                title = f"grads{path}, {name}, {call.__name__} with {len(options)} options"
                yield Refusal(title, call, arguments, error, f"grads{path} {message}")


REFUSALS += gradient_rows()


def optimizer_after_a_step(params=None, cls=fastopt.Adam, **options):
    params = np.ones(4) if params is None else params
    optimizer = cls(params, **options)
    optimizer.step(np.ones_like(params))
    return optimizer


def state_rows():
    """Return rows for gradients that are a state of the optimizer."""
    for call in (step, accumulate):
        optimizer = optimizer_after_a_step(ema_decay=0.5)
        for name, state in optimizer.state.items():
            title = f"grads, state {name}, {call.__name__}"
            yield Refusal(title, call, (optimizer, state), ValueError, f"grads and {name} overlap in memory")


REFUSALS += state_rows()
SHARED = np.ones(6)
TWO = [np.ones(4), np.ones(4)]
REFUSALS += [
    Refusal(
        f"grads that overlap and are zeroed, {call.__name__}",
        call,
        (fastopt.SGD(TWO, zero_grads=True), [SHARED[:4], SHARED[2:]]),
        ValueError,
        "grads[0] and grads[1] overlap in memory",
    )
    for call in (step, accumulate)
]
REFUSALS += [
    Refusal(
        f"grads, read-only but zeroed, {call.__name__}",
        call,
        (fastopt.SGD(np.ones(4), zero_grads=True), read_only(np.ones(4))),
        ValueError,
        "grads must be writable, got a read-only array",
    )
    for call in (step, accumulate)
]
NONE = "grads must have the structure of the parameters if none were accumulated, got None"
REFUSALS += [
    Refusal("grads, none", step, (fastopt.SGD(np.ones(4)),), TypeError, NONE),
    Refusal("grads, None", step, (fastopt.SGD(np.ones(4)), None), TypeError, NONE),
    Refusal("grads, None for a list", step, (fastopt.SGD([np.ones(4)]), None), TypeError, NONE),
    Refusal(
        "grads, None to accumulate",
        accumulate,
        (fastopt.SGD(np.ones(4)), None),
        TypeError,
        NOT_ARRAY.replace("NAME", "grads") + "'NoneType'",
    ),
]


def accumulated():
    optimizer = fastopt.SGD(np.ones(2), nonfinite="raise")
    optimizer.accumulate(np.ones(2))
    return optimizer


REFUSALS += [
    Refusal(
        "grads after accumulate",
        step,
        (accumulated(), np.ones(2)),
        ValueError,
        "grads must be None after accumulate: call step(), or accumulate these, too",
    ),
    Refusal(
        "state_dict after accumulate",
        lambda optimizer: optimizer.state_dict(),
        (accumulated(),),
        RuntimeError,
        "step() must be called after accumulate and before the state is saved",
    ),
]

GROUPS = [{"params": np.ones(2)}, {"params": np.ones(2)}]
DEEP = {"a": {"b": [np.ones(2)]}}
STRUCTURES = [
    (
        "too few",
        [np.ones(2), np.ones(2)],
        [np.ones(2)],
        ValueError,
        "grads must have 2 items like the parameters, got 1",
    ),
    ("too many", [np.ones(2)], [np.ones(2)] * 2, ValueError, "grads must have 1 items like the parameters, got 2"),
    (
        "array for a list",
        [np.ones(2)],
        np.ones(2),
        TypeError,
        "grads must be a list or tuple like the parameters, got 'ndarray'",
    ),
    (
        "list for a mapping",
        {"w": np.ones(2)},
        [np.ones(2)],
        TypeError,
        "grads must be a mapping with the names ['w'], got 'list'",
    ),
    (
        "other names",
        {"w": np.ones(2), "b": np.ones(1)},
        {"w": np.ones(2), "c": np.ones(1)},
        ValueError,
        "grads must have the names ['w', 'b'], got ['b'] missing and ['c'] extra",
    ),
    (
        "additional name",
        {"w": np.ones(2)},
        {"w": np.ones(2), "c": np.ones(1)},
        ValueError,
        "grads must have the names ['w'], got [] missing and ['c'] extra",
    ),
    (
        "array for a nested list",
        DEEP,
        {"a": {"b": np.ones(2)}},
        TypeError,
        "grads['a']['b'] must be a list or tuple like the parameters, got 'ndarray'",
    ),
    (
        "other names in a nested mapping",
        DEEP,
        {"a": {"c": [np.ones(2)]}},
        ValueError,
        "grads['a'] must have the names ['b'], got ['b'] missing and ['c'] extra",
    ),
    (
        "too many in a nested list",
        DEEP,
        {"a": {"b": [np.ones(2)] * 2}},
        ValueError,
        "grads['a']['b'] must have 1 items like the parameters, got 2",
    ),
    (
        "dict for a Flat",
        FLAT,
        dict(FLAT),
        TypeError,
        "grads must be a Flat with the layout of the parameters (params.zeros_like()), got 'dict'",
    ),
    ("buffer for a Flat", FLAT, FLAT.buffer, TypeError, "grads must be a Flat ..., got 'ndarray'"),
    (
        "another layout",
        FLAT,
        fastopt.Flat({"b": 2, "w": (2, 2)}),
        ValueError,
        "grads must have the layout {'w': (2, 2), 'b': (2,)}, got {'b': (2,), 'w': (2, 2)}",
    ),
    ("another layout in a list", [FLAT], [fastopt.Flat({"w": 3})], ValueError, "grads[0] must have the layout {'w'..."),
    (
        "Flat of another dtype",
        FLAT,
        fastopt.Flat({"w": (2, 2), "b": 2}, np.float64),
        TypeError,
        "grads must have dtype float32 as its parameter, got float64",
    ),
    ("the Flat itself", FLAT, FLAT, ValueError, "grads and params overlap in memory"),
    (
        "array for groups",
        GROUPS,
        np.ones(2),
        TypeError,
        "grads must be a list with an item for each group, got 'ndarray'",
    ),
    ("too few groups", GROUPS, [np.ones(2)], ValueError, "grads must have 2 items, one for each group, got 1"),
]
REFUSALS += [
    Refusal(f"structure, {name}", step, (fastopt.Momentum(params), grads), error, message)
    for name, params, grads, error, message in STRUCTURES
]

# Hyperparameters and options -----------------------------------------------------------------------------------------

RATE, DECAY, FLAG = "a finite number >= 0", "a number in [0, 1)", "True or False"
HYPERPARAMETERS = [  # class, name, expected, values out of range, values of a wrong type
    (
        fastopt.SGD,
        "lr",
        RATE,
        [-1e-9, math.nan, math.inf, -math.inf],
        ["0.1", None, 1j, [0.1], np.ones(1), np.complex128(1), np.array("x"), True],
    ),
    (fastopt.SGD, "momentum", DECAY, [-0.1, 1.0, math.nan], ["x"]),
    (fastopt.SGD, "dampening", "a number in [0, 1]", [-0.1, 1.1, math.nan], [None]),
    (fastopt.SGD, "weight_decay", RATE, [-1.0, math.nan, math.inf], [None]),
    (fastopt.SGD, "nesterov", FLAG, [1, "yes", None], []),
    (fastopt.SGD, "maximize", FLAG, [1, None], []),
    (fastopt.SGD, "decoupled_weight_decay", FLAG, [0], []),
    (fastopt.Momentum, "form", "'classical' or 'ema'", ["pytorch", None, 1], []),
    (fastopt.RMSprop, "alpha", DECAY, [1.0, -0.5, math.nan], [None]),
    (fastopt.RMSprop, "eps", RATE, [-1e-30, math.nan, math.inf], ["x"]),
    (fastopt.RMSprop, "centered", FLAG, [1, "x"], []),
    (fastopt.RMSprop, "eps_inside_sqrt", FLAG, [np.array(True)], []),
    (fastopt.Adam, "betas", "two numbers in [0, 1)", [], [(0.9,), 0.9, None, (0.9, 0.9, 0.9)]),
    (fastopt.Adam, "eps", RATE, [-1e-30, math.nan], [None]),
    (fastopt.Adam, "amsgrad", FLAG, [None, 2], []),
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


def set_hyperparameter(optimizer, name, value):
    optimizer.param_groups[0][name] = value


def hyperparameter_rows():
    """Return rows for each invalid value: as an argument, in a group, and set later."""
    table = [
        (
            cls,
            name,
            name,
            expected,
            [(value, ValueError) for value in wrong] + [(value, TypeError) for value in of_type],
        )
        for cls, name, expected, wrong, of_type in HYPERPARAMETERS
    ]
    for i, pair, error in [
        (1, (0.9, 1.0), ValueError),
        (0, (-0.1, 0.9), ValueError),
        (0, (math.nan, 0.9), ValueError),
        (1, (0.9, "x"), TypeError),
    ]:
        table.append((fastopt.Adam, "betas", f"betas[{i}]", DECAY, [(pair, error)]))
    for cls, name, label, expected, values in table:
        for value, error in values:
            got = value[int(label[-2])] if label.endswith("]") else value
            message = f" must be {expected}, got {got!r}"
            title = f"{cls.__name__} {name}={value!r}"
            in_group = f"params[0]['{name}']{label.removeprefix(name)}"
            yield Refusal(
                title,
                lambda params, cls=cls, name=name, value=value: cls(params, **{name: value}),
                (GOOD,),
                error,
                label + message,
            )
            yield Refusal(f"{title} in a group", cls, ([{"params": GOOD, name: value}],), error, in_group + message)
            yield Refusal(
                f"{title} set later",
                lambda optimizer, name=name, value=value: set_hyperparameter(optimizer, name, value),
                (cls(np.ones(3)),),
                error,
                label + message,
            )
    for name, expected, wrong, of_type in STEP_OPTIONS:
        for value, error in [(value, ValueError) for value in wrong] + [(value, TypeError) for value in of_type]:
            yield Refusal(
                f"AdamW {name}={value!r}",
                lambda params, name=name, value=value: fastopt.AdamW(params, **{name: value}),
                (GOOD,),
                error,
                f"{name} must be {expected}, got {value!r}",
            )


REFUSALS += hyperparameter_rows()


def unsettable(name):
    def call(optimizer):
        setattr(optimizer, name, 3)

    return call


def replace_state(optimizer):
    optimizer.state["momentum_buffer"] = np.ones(2)


def replace_group(optimizer):
    optimizer.param_groups[0] = {"lr": 1}


def merge_group(optimizer):
    group = optimizer.param_groups[0]
    group |= {"lr": -1}


def set_lr(optimizer):
    optimizer.lr = -1


def set_grad_scale(optimizer):
    optimizer.grad_scale = 0


REFUSALS += [
    Refusal(f"setting {name}", unsettable(name), (fastopt.SGD(np.ones(2), momentum=0.5),), AttributeError, "...")
    for name in (
        "steps",
        "skipped",
        "grad_norm",
        "max_grad_norm",
        "zero_grads",
        "ema_decay",
        "nonfinite",
        "ema",
        "state",
    )
]
REFUSALS += [
    Refusal(
        f"{copier.__name__} of an optimizer",
        copier,
        (fastopt.SGD(np.ones(2)),),
        TypeError,
        "SGD cannot be copied or pickled because ...load the state_dict() of this one",
    )
    for copier in (copy.copy, copy.deepcopy, pickle.dumps)
]
REFUSALS += [
    Refusal("replacing a state", replace_state, (fastopt.SGD(np.ones(2), momentum=0.5),), TypeError, "..."),
    Refusal("replacing a group", replace_group, (fastopt.SGD(np.ones(2)),), TypeError, "..."),
    Refusal("merging into a group", merge_group, (fastopt.SGD(np.ones(2)),), TypeError, "..."),
    Refusal("lr = -1", set_lr, (fastopt.SGD(np.ones(2)),), ValueError, "lr must be a finite number >= 0, got -1"),
    Refusal(
        "lr = a class of schedules",
        fastopt.SGD,
        (np.ones(2), fastopt.schedules.Cosine),
        TypeError,
        "lr must be a finite number >= 0, got <class ...Cosine...>",
    ),
    Refusal(
        "lr = -1 for groups",
        set_lr,
        (fastopt.SGD([{"params": np.ones(2)}]),),
        ValueError,
        "params[0]['lr'] must be a finite number >= 0, got -1",
    ),
    Refusal(
        "grad_scale = 0",
        set_grad_scale,
        (fastopt.SGD(np.ones(2)),),
        ValueError,
        "grad_scale must be a finite number > 0, got 0",
    ),
    Refusal(
        "nesterov with dampening",
        lambda params: fastopt.SGD(params, momentum=0.9, dampening=0.1, nesterov=True),
        (GOOD,),
        ValueError,
        "nesterov must be False without a momentum or with a dampening, got True with momentum 0.9 and dampening 0.1",
    ),
    Refusal(
        "nesterov without momentum",
        lambda params: fastopt.SGD(params, nesterov=True),
        (GOOD,),
        ValueError,
        "nesterov must be False without a momentum or with a dampening, got True with momentum 0.0 and dampening 0.0",
    ),
    Refusal(
        "dampening without momentum",
        lambda params: fastopt.SGD(params, dampening=0.5),
        (GOOD,),
        ValueError,
        "dampening must be 0 without a momentum, got 0.5",
    ),
    Refusal(
        "unknown option",
        lambda params: fastopt.Adam(params, momentum=0.9),
        (GOOD,),
        TypeError,
        "Adam has no option 'momentum'; options are lr, betas, eps, ...nonfinite, state_dir",
    ),
    Refusal(
        "unknown option of a group",
        fastopt.SGD,
        ([{"params": np.ones(1)}, {"params": np.ones(1), "betas": (0.9, 0.99)}],),
        TypeError,
        "SGD, in params[1], has no option 'betas'; options are lr, momentum, ...",
    ),
    Refusal(
        "option of the whole step in a group",
        fastopt.SGD,
        ([{"params": np.ones(1), "max_grad_norm": 1.0}],),
        TypeError,
        "SGD, in params[0], has no option 'max_grad_norm'; options are ...",
    ),
    Refusal(
        "unknown option set later",
        lambda optimizer: set_hyperparameter(optimizer, "beta", 1),
        (fastopt.SGD(np.ones(1)),),
        TypeError,
        "SGD has no option 'beta'; options are ...",
    ),
    Refusal(
        "removing a hyperparameter",
        lambda optimizer: optimizer.param_groups[0].pop("lr"),
        (fastopt.SGD(np.ones(1)),),
        TypeError,
        "lr cannot be removed from a group",
    ),
    Refusal(
        "one wrong value among several",
        lambda optimizer: optimizer.param_groups[0].update(weight_decay=0.5, lr=-1),
        (fastopt.SGD(np.ones(1)),),
        ValueError,
        "lr must be a finite number >= 0, got -1",
    ),
    Refusal(
        "a change that needs other states",
        lambda optimizer: set_hyperparameter(optimizer, "amsgrad", True),
        (fastopt.Adam(np.ones(1)),),
        ValueError,
        "amsgrad must not change the states, got values that need those of 'amsgrad' instead of 'adam': ...",
    ),
    Refusal(
        "a mapping that returns new arrays",
        lambda params: fastopt.SGD(type("Fresh", (dict,), {"__getitem__": lambda self, key: np.ones(2)})(params)),
        ({"w": np.ones(2)},),
        TypeError,
        "params must be a mapping that keeps its arrays, got 'Fresh', which returns a new array for 'w' each time: ...",
    ),
]

# Schedules and coefficients ------------------------------------------------------------------------------------------


def scheduled(value):
    """Return an optimizer whose rate is invalid in the third step, after two steps."""
    optimizer = fastopt.Adam(np.ones(4), lr=lambda step: 0.1 if step < 2 else value, zero_grads=True)
    for _ in range(2):
        optimizer.step(np.ones(4))
    return optimizer


def raising_schedule(step):
    raise LookupError("no rate")


REFUSALS += [
    Refusal(
        f"schedule that returns {value!r}",
        step,
        (scheduled(value), np.ones(4)),
        error,
        f"lr (the result of <function ...> at step 2) must be a finite number >= 0, got {value!r}",
    )
    for value, error in [
        *[(value, ValueError) for value in (math.nan, math.inf, -1.0)],
        *[(value, TypeError) for value in ("0.1", None, 1j, [0.1], np.ones(2), True)],
    ]
]
REFUSALS += [
    Refusal(
        "schedule of another hyperparameter",
        step,
        (fastopt.Adam(np.ones(4), eps=lambda step: -1), np.ones(4)),
        ValueError,
        "eps (the result of <function ...> at step 0) must be a finite number >= 0, got -1",
    ),
    Refusal(
        "schedule of a beta",
        step,
        (fastopt.Adam(np.ones(4), betas=(0.9, lambda step: 1.0)), np.ones(4)),
        ValueError,
        "betas[1] (the result of <function ...> at step 0) must be a number in [0, 1), got 1.0",
    ),
    Refusal(
        "schedule that raises",
        step,
        (fastopt.Adam(np.ones(4), lr=raising_schedule), np.ones(4)),
        LookupError,
        "no rate",
    ),
]
REFUSALS += [
    Refusal(
        f"coefficient {name} = {value} in {real}",
        step,
        (fastopt.SGD(np.ones(4, real), **options), np.full(4, grad, real)),
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
REFUSALS += [
    Refusal(
        "gradient that is not finite",
        step,
        (fastopt.SGD({"w": [np.ones((2, 2))]}, nonfinite="raise"), {"w": [np.array([[1, 1], [math.nan, 1]])]}),
        FloatingPointError,
        "grads['w'][0] must be finite, got nan at index (1, 0)",
    ),
    *[
        Refusal(
            f"norm beyond float64, {nonfinite}",
            lambda params, grads, nonfinite=nonfinite: fastopt.SGD(params, max_grad_norm=1.0, nonfinite=nonfinite).step(
                grads
            ),
            (np.zeros(2), np.full(2, 1e200)),
            OverflowError,
            "the norm of grads must be within float64 to be scaled to max_grad_norm, got infinity",
        )
        for nonfinite in ("propagate", "skip", "raise")
    ],
]

# States --------------------------------------------------------------------------------------------------------------


def load(optimizer, state_dict):
    optimizer.load_state_dict(state_dict)


def state_dict_rows():
    """Return rows for a state_dict that is broken in one place."""

    def optimizer(steps=1):
        made = fastopt.Adam({"w": np.ones((2, 2), np.float32), "b": np.ones(3, np.float32)})
        for _ in range(steps):
            made.step({"w": np.ones((2, 2), np.float32), "b": np.ones(3, np.float32)})
        return made

    saved = optimizer(3).state_dict()
    group = saved["param_groups"][0]
    w, b = group["state"]["exp_avg"]["w"], group["state"]["exp_avg"]["b"]

    def with_group(**changes):
        return {**saved, "param_groups": [{**group, **changes}]}

    def with_state(**changes):
        return with_group(state={**group["state"], **changes})

    first = "state_dict['param_groups'][0]"
    second = f"{first}['state']['exp_avg_sq']"
    rows = [
        ([], TypeError, "state_dict must be a mapping, got 'list'"),
        (
            {"steps": 1},
            ValueError,
            "state_dict must have the keys [...], got ['grad_scale', 'param_groups', 'skipped'] missing and [] extra",
        ),
        ({**saved, "steps": -1}, ValueError, "state_dict['steps'] must be an int >= 0, got -1"),
        ({**saved, "steps": 2**62}, ValueError, f"state_dict['steps'] must be an int < 2**62, got {2**62}"),
        ({**saved, "steps": 1.5}, TypeError, "state_dict['steps'] must be an int >= 0, got 1.5"),
        ({**saved, "skipped": True}, TypeError, "state_dict['skipped'] must be an int >= 0, got True"),
        ({**saved, "grad_scale": 0}, ValueError, "state_dict['grad_scale'] must be a finite number > 0, got 0"),
        ({**saved, "param_groups": 3}, TypeError, "state_dict['param_groups'] must be a list, got 'int'"),
        ({**saved, "param_groups": []}, ValueError, "state_dict['param_groups'] must have 1 groups, got 0"),
        ({**saved, "param_groups": [1]}, TypeError, f"{first} must be a mapping, got 'int'"),
        (
            with_group(momentum=0.9),
            ValueError,
            f"{first} must have the keys [...], got [] missing and ['momentum'] extra",
        ),
        (with_group(lr=-1.0), ValueError, f"{first}['lr'] must be a finite number >= 0, got -1.0"),
        (
            with_group(amsgrad=True),
            ValueError,
            "amsgrad must not change the states, got values that need those of 'amsgrad'...",
        ),
        (with_group(state=None), TypeError, f"{first}['state'] must be a mapping, got 'NoneType'"),
        (
            with_group(state={}),
            ValueError,
            f"{first}['state'] must have the keys [...], got ['exp_avg', 'exp_avg_sq'] missing and [] extra",
        ),
        (with_state(exp_avg_sq=[w, b]), TypeError, f"{second} must be a mapping with the names ['w', 'b'], got 'list'"),
        (
            with_state(exp_avg_sq={"w": w}),
            ValueError,
            f"{second} must have the names ['w', 'b'], got ['b'] missing and [] extra",
        ),
        (
            with_state(exp_avg_sq={"w": w, "b": b[:1]}),
            ValueError,
            f"{second}['b'] must be float32 of shape (3,), got float32 of (1,)",
        ),
        (
            with_state(exp_avg_sq={"w": w, "b": b.astype("f8")}),
            ValueError,
            f"{second}['b'] must be float32 of shape (3,), got float64 of (3,)",
        ),
        (with_state(exp_avg_sq={"w": w, "b": [1.0] * 3}), TypeError, f"{second}['b'] must be an array, got 'list'"),
        (
            with_state(exp_avg_sq={"w": w, "b": np.ma.array(b)}),
            TypeError,
            f"{second}['b'] must be an array without a mask, got a masked array",
        ),
    ]
    for i, (state_dict, error, message) in enumerate(rows):
        yield Refusal(f"state_dict {i}, {message}", load, (optimizer(), state_dict), error, message)
    fixed, function = fastopt.SGD(np.ones(2), lr=0.5), fastopt.SGD(np.ones(2), lr=lambda step: 0.5)
    for mine, other in ((fixed, function), (function, fixed)):
        differences = "[] missing and ['lr'] extra" if other is fixed else "['lr'] missing and [] extra"
        message = f"state_dict['param_groups'][0] must have the keys [...], got {differences}"
        title = f"state_dict, a rate that is {'a number' if other is fixed else 'a function'}"
        yield Refusal(title, load, (mine, other.state_dict()), ValueError, message)


REFUSALS += state_dict_rows()

# Kernels -------------------------------------------------------------------------------------------------------------

FOUR = [np.ones(4) for _ in range(4)]
REFUSALS += [
    Refusal(f"kernels, {name}", call, tuple(FOUR), error, message)
    for name, call, error, message in [
        (
            "too few states",
            lambda a, b, c, d: kernels.adam(a, b, c, d, step=1, amsgrad=True),
            TypeError,
            "kernels.adam must have param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq for ..., got ..., exp_avg_sq",
        ),
        (
            "too few arrays",
            lambda a, b, c, d: kernels.adam(a, b, step=1),
            TypeError,
            "kernels.adam must be called as adam(param...): missing a required ...'exp_avg'",
        ),
        (
            "too many arrays",
            lambda a, b, c, d: kernels.sgd(a, b, c, d, step=1),
            TypeError,
            "kernels.sgd must be called as sgd(param...): too many positional arguments",
        ),
        (
            "unwanted state",
            lambda a, b, c, d: kernels.sgd(a, b, c, step=1),
            TypeError,
            "kernels.sgd must have param, grad for these hyperparameters, got param, grad, momentum_buffer",
        ),
        (
            "array given twice",
            lambda a, b, c, d: kernels.sgd(a, b, param=c, step=1),
            TypeError,
            "kernels.sgd must be called as sgd(param...): multiple values for argument 'param'",
        ),
        (
            "no step",
            lambda a, b, c, d: kernels.sgd(a, b),
            TypeError,
            "kernels.sgd must be called as sgd(param...): missing a required ...'step'",
        ),
        ("step 0", lambda a, b, c, d: kernels.sgd(a, b, step=0), ValueError, "step must be an int >= 1, got 0"),
        ("step 1.0", lambda a, b, c, d: kernels.sgd(a, b, step=1.0), TypeError, "step must be an int >= 1, got 1.0"),
        (
            "scale nan",
            lambda a, b, c, d: kernels.sgd(a, b, step=1, scale=math.nan),
            ValueError,
            "scale must be a finite number, got nan",
        ),
        (
            "schedule",
            lambda a, b, c, d: kernels.sgd(a, b, step=1, lr=lambda step: 1),
            TypeError,
            "lr must be a finite number >= 0, got <function ...>",
        ),
        (
            "unknown option",
            lambda a, b, c, d: kernels.sgd(a, b, step=1, beta=1),
            TypeError,
            "kernels.sgd must be called as sgd(param...): got an unexpected keyword argument 'beta'",
        ),
        (
            "rate below 0",
            lambda a, b, c, d: kernels.sgd(a, b, step=1, lr=-1),
            ValueError,
            "lr must be a finite number >= 0, got -1",
        ),
        ("overlap", lambda a, b, c, d: kernels.sgd(a, a, step=1), ValueError, "grad and param overlap in memory"),
        (
            "shape of a state",
            lambda a, b, c, d: kernels.momentum(a, b, c[:3], step=1),
            ValueError,
            "momentum_buffer must have shape (4,) as its parameter, got (3,)",
        ),
    ]
]

# Threads and instruction sets ----------------------------------------------------------------------------------------

REFUSALS += [
    Refusal(
        f"set_num_threads({n!r})",
        lambda n=n: fastopt.set_num_threads(n),
        (),
        ValueError,
        f"n must be 'auto' or an int from 1 to 1024, got {n!r}",
    )
    for n in (0, -1, 1025, 1.0, True, "two", None)
]
REFUSALS += [
    Refusal(
        "set_threading_layer('tbb')",
        lambda: fastopt.set_threading_layer("tbb"),
        (),
        ValueError,
        "name must be 'pool' or 'openmp', got 'tbb'",
    ),
    Refusal(
        "set_isa('mmx')",
        lambda: fastopt.set_isa("mmx"),
        (),
        ValueError,
        "name must be an instruction set of this machine (...baseline), got 'mmx'",
    ),
]


@pytest.mark.parametrize("row", REFUSALS, ids=[row.name for row in REFUSALS])
def test_invalid_call_raises_and_changes_nothing(row):
    before = snapshot(*row.arguments)
    pattern = ".*".join(map(re.escape, row.message.split("...")))
    for _ in range(2):  # a refused argument must not count as known the second time
        with pytest.raises(row.error) as caught:
            row.call(*row.arguments)
        assert type(caught.value) is row.error
        assert re.fullmatch(pattern, str(caught.value), re.DOTALL), f"{caught.value}\nis not\n{row.message}"
        assert snapshot(*row.arguments) == before


def test_names_of_rows_are_unique():
    assert len({row.name for row in REFUSALS}) == len(REFUSALS)


# Unusual arguments that are accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, ALL_STAGES], ids=["no options", "all options"])
def test_optimizer_continues_after_a_refused_gradient(options):
    start, grad = np.ones(4, np.float32), np.full(4, 0.5, np.float32)
    param, other = start.copy(), start.copy()
    refused, plain = fastopt.Adam(param, **options), fastopt.Adam(other, **options)
    for _ in range(3):
        for bad in (np.ones(3, np.float32), param, np.ones(4), [1.0] * 4):
            with pytest.raises((TypeError, ValueError)):
                refused.step(bad)
        refused.step(grad.copy())
        plain.step(grad.copy())
    assert param.tobytes() == other.tobytes()
    assert refused.steps == plain.steps == 3


def test_gradients_that_are_only_read_may_overlap():
    shared, params = np.ones(6), [np.zeros(4), np.zeros(4)]
    fastopt.SGD(params, lr=1.0).step([shared[:4], shared[2:]])
    assert (params[0] == -1).all()


def test_read_only_gradient_is_accepted():
    param = np.zeros(4)
    fastopt.SGD(param, lr=1.0).step(read_only(np.ones(4)))
    assert (param == -1).all()


def test_adjacent_parameters_do_not_overlap():
    memory = np.ones(10)
    fastopt.SGD({"a": memory[:5], "b": memory[5:]})


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 5)])
def test_empty_arrays_are_accepted(shape):
    other = np.ones(2)
    optimizer = fastopt.Adam([np.ones(shape), other], max_grad_norm=1.0, ema_decay=0.5, zero_grads=True)
    optimizer.step([np.ones(shape), np.ones(2)])
    assert optimizer.steps == 1
    assert (other < 1).all()
    for nothing, grads in (([], []), ({}, {}), (fastopt.Flat({}), fastopt.Flat({})), (np.ones(shape), np.ones(shape))):
        optimizer = fastopt.Adam(nothing, max_grad_norm=1.0, nonfinite="raise")
        optimizer.step(grads)
        assert (optimizer.steps, optimizer.grad_norm) == (1, 0.0)


def test_any_buffer_is_accepted(tmp_path):
    from array import array  # noqa: PLC0415

    mapped = np.memmap(tmp_path / "p.bin", np.float64, "w+", shape=(4,))
    for param in (array("d", [1.0] * 4), memoryview(np.ones(4)), Foreign(np.ones(4)), mapped, np.ones((2, 2))[:1, 0:]):
        values = np.asarray(param)
        values[...] = 1
        fastopt.SGD(param, lr=0.5).step(np.ones(values.shape))
        assert (values == 0.5).all()


def test_npz_file_is_refused_and_its_dict_accepted(tmp_path):
    np.savez(tmp_path / "saved.npz", w=np.ones(3))
    with np.load(tmp_path / "saved.npz") as saved:
        with pytest.raises(TypeError, match=r"^params must be a mapping that keeps its arrays, got 'NpzFile'"):
            fastopt.SGD(saved)
        fastopt.SGD(dict(saved))


def test_step_inside_a_step_is_refused():
    class Nested:
        @property
        def __array_interface__(self):
            optimizer.step(np.ones(3))
            return np.ones(3).__array_interface__

    param = np.ones(3)
    optimizer = fastopt.SGD(param, lr=1.0)
    with pytest.raises(RuntimeError, match=r"^the optimizer is already in use by another thread or a re-entrant call$"):
        optimizer.step(Nested())
    assert (param == 1).all()
    optimizer.step(np.ones(3))
    assert (param == 0).all()


def test_optimizer_holds_its_buffers_and_gradients_only_during_a_step():
    memory = bytearray(32)
    optimizer = fastopt.SGD(np.frombuffer(memory, np.float64))
    with pytest.raises(BufferError):
        memory.extend(b"more")
    grad = bytearray(32)
    optimizer.step(memoryview(grad).cast("d"))
    grad.extend(b"more")
    del optimizer
    memory.extend(b"more")
