"""Refused parameters and gradients: their arrays, their structure and their values."""

from __future__ import annotations

import math
import mmap
from functools import partial

import numpy as np
from cases import Foreign, read_only

from fastopt import SGD, Adam, Flat, Momentum

NOT_ARRAY = "must be an array (something with the buffer protocol or __array_interface__), got "
NOT_REAL = "must have dtype float32 or float64, got "
NOT_DENSE = "must be contiguous, with its axes in any order, got "
ON_GPU = "must be in the memory of the CPU, got ... on a GPU: copy it to a NumPy array and use that"
MASKED = "must be an array without a mask, got a masked array"


class InvalidInterface:
    """An object with an ``__array_interface__`` without data."""

    __array_interface__ = {"version": 3}  # noqa: RUF012


class Fresh(dict):
    """A mapping that returns a new array each time."""

    def __getitem__(self, key):
        return np.ones(2)


class OnGpu:
    """Like an array of CuPy or numba."""

    __cuda_array_interface__ = {"shape": (4,), "typestr": "<f4", "data": (4096, False), "version": 3}  # noqa: RUF012


class OnDevice:
    """Like a tensor of PyTorch on a device of DLPack's numbering: 2 is CUDA, 14 is oneAPI."""

    def __init__(self, device):
        self.device = device

    def __dlpack_device__(self):
        if self.device is None:  # a tensor without memory
            raise ValueError("Unknown device type meta for Dlpack")
        return self.device, 0

    detach = numpy = None


class Unified(bytearray):
    """Like an array of MLX: the CPU can read it, but Metal (8) may compute with it at the same time."""

    def __dlpack_device__(self):
        return 8, 0


class Unreadable(mmap.mmap):
    """Like an array of JAX on a GPU: it has a buffer, which can't be acquired."""

    def __dlpack_device__(self):
        return 2, 0


def unreadable():
    array = Unreadable(-1, 16)
    array.close()
    return array


def misaligned(size, dtype=np.float32):
    return np.zeros(size * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype)


def byte_swapped(size):
    return np.ones(size, np.dtype(np.float32).newbyteorder())


# Parameters ----------------------------------------------------------------------------------------------------------

INVALID_PARAMS = [
    (None, TypeError, NOT_ARRAY + "'NoneType'"),
    (1.0, TypeError, NOT_ARRAY + "'float'"),
    ((x for x in [np.zeros(2)]), TypeError, NOT_ARRAY + "'generator': pass list(...) of it"),
    ({"w": np.zeros(2)}.values(), TypeError, NOT_ARRAY + "'dict_values': pass list(...) of it"),
    ("w", TypeError, NOT_ARRAY + "'str'"),
    (bytearray(8), TypeError, NOT_REAL + "'B'"),
    (np.arange(4), TypeError, NOT_REAL + "int64"),
    (np.ones(4, np.float16), TypeError, NOT_REAL + "float16"),
    (np.ones(4, np.complex64), TypeError, NOT_REAL + "complex64"),
    (np.ones(4, np.longdouble), TypeError, NOT_REAL + str(np.dtype(np.longdouble))),
    (np.zeros(4, "M8[s]"), TypeError, NOT_REAL + "datetime64[s] (...)"),
    (np.array([1.0, None]), TypeError, NOT_REAL + "object"),
    (np.zeros(4, [("x", "f4")]), TypeError, NOT_REAL + "[('x', '<f4')]"),
    (byte_swapped(4), TypeError, NOT_REAL + f"{byte_swapped(4).dtype.str} (byte-swapped)"),
    (np.ones(8)[::2], ValueError, NOT_DENSE + "shape (4,) with strides (16,) bytes"),
    (np.ones(8)[::-1], ValueError, NOT_DENSE + "shape (8,) with strides (-8,) bytes"),
    (np.ones((4, 3)).T[:2], ValueError, NOT_DENSE + "shape (2, 4) with strides (8, 24) bytes"),
    (np.ones((4, 3, 2))[:, :2], ValueError, NOT_DENSE + "shape (4, 2, 2) with strides (48, 16, 8) bytes"),
    (np.broadcast_to(np.ones(3), (2, 3)), ValueError, NOT_DENSE + "shape (2, 3) with strides (0, 8) bytes"),
    (read_only(np.ones(4)), ValueError, "must be writable, got a read-only array"),
    (np.float32(1), ValueError, "must be writable, got a read-only array"),
    (misaligned(4), ValueError, "must be aligned to 4 bytes, got address 0x..."),
    (Foreign(read_only(np.ones(3))), ValueError, "must be writable, got a read-only array"),
    (Foreign(np.arange(3)), TypeError, NOT_REAL + "int64"),
    (np.ma.ones(3), TypeError, MASKED),
    (OnGpu(), TypeError, ON_GPU.replace("...", "'OnGpu'")),
    (OnDevice(2), TypeError, ON_GPU.replace("...", "'OnDevice'")),
    (OnDevice(14), TypeError, ON_GPU.replace("...", "'OnDevice'")),
    (OnDevice(1), TypeError, NOT_ARRAY + "'OnDevice': pass .detach().numpy() of it, which shares its memory"),
    (OnDevice(None), TypeError, NOT_ARRAY + "'OnDevice': pass .detach().numpy() of it, which shares its memory"),
    (Unified(16), TypeError, ON_GPU.replace("...", "'Unified'")),
    (unreadable(), TypeError, ON_GPU.replace("...", "'Unreadable'")),
    (InvalidInterface(), TypeError, "must have a valid __array_interface__: ..."),
]
GOOD = np.ones(3)

REFUSALS = [
    (partial(Adam, params), error, f"params{path} {message}")
    for bad, error, message in INVALID_PARAMS
    for path, params in [
        ("", bad),
        ("[1]", [GOOD, bad]),
        ("['w']", {"a": GOOD, "w": bad}),
        ("['a'][1][0]", {"a": [GOOD, (bad,)]}),
        ("[1]['w']", [{"params": GOOD}, {"params": {"w": bad}}]),
    ]
]

MEMORY = np.ones(10)
FLAT = Flat({"w": (2, 2), "b": 2})
NOT_A_GROUP = "params[1] must be a group dict with 'params', got "
REFUSALS += [
    (partial(Adam, [1.0, 2.0]), TypeError, f"params[0] {NOT_ARRAY}'float'"),
    (lambda: SGD({"a": MEMORY[:6], "b": MEMORY[5:]}), ValueError, "params['a'] and params['b'] overlap in memory"),
    (
        lambda: SGD({"a": [MEMORY[:6]], "b": {"c": (MEMORY[5:],)}}),
        ValueError,
        "params['a'][0] and params['b']['c'][0] overlap in memory",
    ),
    (
        lambda: SGD([{"params": MEMORY}, {"params": [MEMORY]}]),
        ValueError,
        "params[0] and params[1][0] overlap in memory",
    ),
    (lambda: SGD([FLAT, FLAT["b"]]), ValueError, "params[0] and params[1] overlap in memory"),
    (partial(SGD, [{"params": GOOD}, {"lr": 1.0}]), TypeError, NOT_A_GROUP + "{'lr': 1.0}"),
    (partial(SGD, [{"params": GOOD}, GOOD]), TypeError, NOT_A_GROUP + "array(...)"),
    (
        partial(SGD, Fresh(w=np.ones(2))),
        TypeError,
        "params must be a mapping that keeps its arrays, got 'Fresh', which returns a new array for 'w' each time: ...",
    ),
]

# Gradients -----------------------------------------------------------------------------------------------------------

NOT_FLOAT32 = "must have dtype float32 as its parameter, got "
NOT_4 = "must have shape (4,) as its parameter, got "
CONVERT = ": pass np.ascontiguousarray(grads..., dtype=np.float32), or convert_grads=True to the optimizer"
OVERLAP = "and params... overlap in memory"
INVALID_GRADS = [  # for a parameter of 4 elements in float32, with 3 elements of memory on both sides
    (lambda param: [1.0] * 4, TypeError, "must be an array (something with ...), got 'list'"),
    (lambda param: np.ones(4), TypeError, NOT_FLOAT32 + "float64" + CONVERT),
    (lambda param: np.ones(4, np.int32), TypeError, NOT_FLOAT32 + "int32" + CONVERT),
    (lambda param: byte_swapped(4), TypeError, NOT_FLOAT32 + "... (byte-swapped)" + CONVERT),
    (lambda param: np.ones(3, "f"), ValueError, NOT_4 + "(3,)"),
    (lambda param: np.ones(0, "f"), ValueError, NOT_4 + "(0,)"),
    (lambda param: np.ones((2, 2), "f"), ValueError, NOT_4 + "(2, 2)"),
    (lambda param: np.ones((), "f"), ValueError, NOT_4 + "()"),
    (lambda param: np.ones(8, "f")[::2], ValueError, "must be C-contiguous, got ..." + CONVERT),
    (lambda param: np.broadcast_to(np.float32(1), 4), ValueError, "must be C-contiguous, got ..." + CONVERT),
    (lambda param: np.ma.ones(4, "f"), TypeError, MASKED),
    (lambda param: OnGpu(), TypeError, ON_GPU.replace("...", "'OnGpu'")),
    (lambda param: OnDevice(2), TypeError, ON_GPU.replace("...", "'OnDevice'")),
    (lambda param: unreadable(), TypeError, ON_GPU.replace("...", "'Unreadable'")),
    (lambda param: misaligned(4), ValueError, "must be aligned to 4 bytes, got address 0x..."),
    (lambda param: param, ValueError, OVERLAP),
    (lambda param: param.base[6:10], ValueError, OVERLAP),
    (lambda param: param.base[:4], ValueError, OVERLAP),
]
ALL_STAGES = {"ema_decay": 0.9, "zero_grads": True, "max_grad_norm": 1.0}


def invalid_gradients():
    """Return rows for each invalid gradient, in several structures, with and without the options of a step."""
    for make, error, message in INVALID_GRADS:
        for path, structure in [
            ("", lambda x: x),
            ("[1]", lambda x: [np.ones(2), x]),
            ("['w']", lambda x: {"b": np.ones(2), "w": x}),
            ("['w'][1]", lambda x: {"b": np.ones(2), "w": [np.ones(1), x]}),
        ]:
            for call, options in ((Adam.step, {}), (Adam.step, ALL_STAGES), (Adam.accumulate, {})):
                param = np.ones(10, np.float32)[3:7]
                optimizer = Adam(structure(param), **options)
                optimizer.step(structure(np.full(4, 0.5, np.float32)))
                yield partial(call, optimizer, structure(make(param))), error, f"grads{path} {message}"


def states_as_gradients():
    for call in (Adam.step, Adam.accumulate):
        optimizer = Adam(np.ones(4), ema_decay=0.5)
        optimizer.step(np.ones(4))
        for name, state in optimizer.state.items():
            yield partial(call, optimizer, state), ValueError, f"grads and {name} overlap in memory"


REFUSALS += [*invalid_gradients(), *states_as_gradients()]
SHARED = np.ones(6)
REFUSALS += [
    (partial(call, SGD(params, zero_grads=True), grads), ValueError, message)
    for call in (SGD.step, SGD.accumulate)
    for params, grads, message in [
        ([np.ones(4), np.ones(4)], [SHARED[:4], SHARED[2:]], "grads[0] and grads[1] overlap in memory"),
        (np.ones(4), read_only(np.ones(4)), "grads must be writable, got a read-only array"),
    ]
]

ACCUMULATED = SGD(np.ones(2), nonfinite="raise")
ACCUMULATED.accumulate(np.ones(2))
NONE = "grads must have the structure of the parameters if none were accumulated, got None"
REFUSALS += [
    (partial(SGD.step, SGD(np.ones(4))), TypeError, NONE),
    (partial(SGD.step, SGD(np.ones(4)), None), TypeError, NONE),
    (partial(SGD.step, SGD([np.ones(4)]), None), TypeError, NONE),
    (partial(SGD.accumulate, SGD(np.ones(4)), None), TypeError, "grads must be an array like the parameters, got None"),
    (
        partial(SGD.step, ACCUMULATED, np.ones(2)),
        ValueError,
        "grads must be None after accumulate: call step(), or accumulate these, too",
    ),
    (
        partial(SGD.state_dict, ACCUMULATED),
        RuntimeError,
        "step() must be called after accumulate and before the state is saved",
    ),
]

ADDED, TAKEN = SGD([np.ones(2)]), np.ones(3)
FORTRAN, CHANNELS = np.asfortranarray(np.ones((2, 3))), np.ones((2, 3, 4)).transpose(0, 2, 1)
REFUSALS += [
    (partial(call, SGD(params), grads, skip), error, message)
    for call in (SGD.step, SGD.accumulate)
    for params, grads, skip, error, message in [
        (FLAT, FLAT.copy(), ["x"], ValueError, "skip must contain names of ['w', 'b'], got 'x'"),
        (FLAT, FLAT.copy(), "w", TypeError, "skip must be a list of names of the Flat, got 'w'"),
        (FLAT, FLAT.copy(), [["w"]], ValueError, "skip must contain names of ['w', 'b'], got ['w']"),
        (FLAT, FLAT.copy(), 0, TypeError, "skip must be a list of names of the Flat, got 0"),
        ({"w": np.ones(2)}, {"w": np.ones(2)}, False, TypeError, "skip must be empty unless the parameters are ..."),
        (FLAT, FLAT.copy(), 1, TypeError, "skip must be a list of names of the Flat, got 1"),
        (
            {"w": np.ones(2)},
            {"w": np.ones(2)},
            ["w"],
            TypeError,
            "skip must be empty unless the parameters are a Flat, got ['w']: pass None in place of a gradient",
        ),
        ([{"params": FLAT}], [FLAT.copy()], [[], []], ValueError, "skip must have 1 items, one for each group, got 2"),
        ([{"params": FLAT}], [FLAT.copy()], [["x"]], ValueError, "skip[0] must contain names of ['w', 'b'], got 'x'"),
        (
            [{"params": GOOD}],
            [np.ones(3)],
            [["x"]],
            TypeError,
            "skip[0] must be empty unless the parameters are a Flat...",
        ),
    ]
]
REFUSALS += [
    (
        partial(SGD.step, ACCUMULATED, skip=["w"]),
        TypeError,
        "skip must be empty unless the parameters are a Flat, got ['w']: pass None in place of a gradient",
    ),
    *[
        (partial(SGD.add_param_group, ADDED, group), error, message)
        for group, error, message in [
            (None, TypeError, "param_group must be a group dict with 'params', got None"),
            ({"lr": 1.0}, TypeError, "param_group must be a group dict with 'params', got {'lr': 1.0}"),
            ({"params": TAKEN, "beta": 1.0}, TypeError, "SGD, in param_group, has no option 'beta'..."),
            ({"params": TAKEN, "lr": -1.0}, ValueError, "params[1]['lr'] must be a finite number >= 0, got -1.0"),
            ({"params": [1.0]}, TypeError, f"params[1][0] {NOT_ARRAY}'float'"),
            ({"params": [TAKEN, TAKEN]}, ValueError, "params[1][0] and params[1][1] overlap in memory"),
            ({"params": ADDED._tree.arrays[0]}, ValueError, "params[0][0] and params[1] overlap in memory"),
        ]
    ],
    (
        partial(SGD.step, SGD(FORTRAN), np.ones((2, 3))),
        ValueError,
        "grads must be laid out as its parameter, with strides (8, 16) bytes, ...: pass np.asfortranarray(grads, ...",
    ),
    (
        partial(SGD.step, SGD(CHANNELS), np.ones((2, 4, 3))),
        ValueError,
        "grads must be laid out as its parameter, with strides (96, 8, 32) bytes, ...: pass a copy in np...",
    ),
    *[
        (
            partial(SGD.step, SGD([np.ones(2)], convert_grads=True, zero_grads=zero), [grad]),
            error,
            "grads[0] " + message,
        )
        for zero, grad, error, message in [
            (False, np.ones(3), ValueError, "must have shape (2,) as its parameter, got (3,)"),
            (False, 1.0, ValueError, "must have shape (2,) as its parameter, got ()"),
            (False, np.ones(2, complex), TypeError, "must be an array of real numbers, got dtype complex128"),
            (False, [1.0, None], TypeError, "must be an array of real numbers, got dtype object"),
            (False, ["1", "2"], TypeError, "must be an array of real numbers, got dtype <U1"),
            (False, [1.0, [2.0]], TypeError, "must be an array of real numbers, got 'list': ..."),
            (False, np.ma.ones(2), TypeError, MASKED),
            (True, [1.0, 2.0], ValueError, "must be a writable array to be set to zero, got 'list'"),
            (
                True,
                read_only(np.ones(2, "f4")),
                ValueError,
                "must be a writable array to be set to zero, got a read-only array",
            ),
        ]
    ],
]


def other_views_of_written_arrays():
    """Return rows for gradients that would be copied and then set to zero, in memory that a step writes."""
    for call in (Adam.step, Adam.accumulate):
        param = np.ones((3, 3))
        optimizer = Adam([param], convert_grads=True, zero_grads=True)
        for grad, name in [
            (param.T, "params[0]"),
            (param[::-1], "params[0]"),
            (param.ravel().view(np.float32)[9:].reshape(3, 3), "params[0]"),
            (optimizer.state["exp_avg"][0].T, "exp_avg[0]"),
        ]:
            yield partial(call, optimizer, [grad]), ValueError, f"grads[0] and {name} overlap in memory"


REFUSALS += other_views_of_written_arrays()

W, WB = {"w": np.ones(2)}, {"w": np.ones(2), "b": np.ones(1)}
GROUPS = [{"params": np.ones(2)}, {"params": np.ones(2)}]
DEEP = {"a": {"b": [np.ones(2)]}}
STRUCTURES = [
    ([np.ones(2), np.ones(2)], [np.ones(2)], ValueError, "grads must have 2 items like the parameters, got 1"),
    ([np.ones(2)], [np.ones(2)] * 2, ValueError, "grads must have 1 items like the parameters, got 2"),
    ([np.ones(2)], np.ones(2), TypeError, "grads must be a list or tuple like the parameters, got 'ndarray'"),
    (W, [np.ones(2)], TypeError, "grads must be a mapping with the names ['w'], got 'list'"),
    (
        WB,
        {"w": np.ones(2), "c": np.ones(1)},
        ValueError,
        "grads must have the names ['w', 'b'], got ['b'] missing and ['c'] extra",
    ),
    (
        W,
        {"w": np.ones(2), "c": np.ones(1)},
        ValueError,
        "grads must have the names ['w'], got [] missing and ['c'] extra",
    ),
    (
        DEEP,
        {"a": {"b": np.ones(2)}},
        TypeError,
        "grads['a']['b'] must be a list or tuple like the parameters, got 'ndarray'",
    ),
    (
        DEEP,
        {"a": {"c": [np.ones(2)]}},
        ValueError,
        "grads['a'] must have the names ['b'], got ['b'] missing and ['c'] extra",
    ),
    (DEEP, {"a": {"b": [np.ones(2)] * 2}}, ValueError, "grads['a']['b'] must have 1 items like the parameters, got 2"),
    (
        FLAT,
        dict(FLAT),
        TypeError,
        "grads must be a Flat with the layout of the parameters (params.zeros_like()), got 'dict'",
    ),
    (FLAT, FLAT.buffer, TypeError, "grads must be a Flat ..., got 'ndarray'"),
    (
        FLAT,
        Flat({"b": 2, "w": (2, 2)}),
        ValueError,
        "grads must have the layout {'w': (2, 2), 'b': (2,)}, got {'b': (2,), 'w': (2, 2)}",
    ),
    ([FLAT], [Flat({"w": 3})], ValueError, "grads[0] must have the layout {'w'..."),
    (FLAT, Flat({"w": (2, 2), "b": 2}, np.float64), TypeError, f"grads {NOT_FLOAT32}float64{CONVERT}"),
    (FLAT, FLAT, ValueError, "grads and params overlap in memory"),
    (GROUPS, np.ones(2), TypeError, "grads must be a list with an item for each group, got 'ndarray'"),
    (GROUPS, [np.ones(2)], ValueError, "grads must have 2 items, one for each group, got 1"),
]
REFUSALS += [
    (partial(Momentum.step, Momentum(params), grads), error, message) for params, grads, error, message in STRUCTURES
]

# Values of gradients -------------------------------------------------------------------------------------------------

INFINITE = np.ones((3, 5))
INFINITE[1, 2:] = [-math.inf, math.nan, 1]  # the first one is reported
REFUSALS += [
    (
        partial(SGD.step, SGD(make(np.ones((3, 5))), nonfinite="raise"), make(INFINITE)),
        FloatingPointError,
        f"grads{path} must be finite, got -inf at index (1, 2)",
    )
    for path, make in [
        ("", lambda x: x),
        ("[1]", lambda x: [np.ones(4, np.float32), x]),
        ("['w'][0]", lambda x: {"w": [x]}),
        ("[1]['a'][0]", lambda x: [np.ones(1), {"a": (x,)}]),
        ("['a'][0]", lambda x: {"a": [x], "b": np.ones(1)}),
        ("[('a', 1)][2]", lambda x: {("a", 1): {2: x}}),
        ("['b']", lambda x: Flat({"w": (2, 2), "b": x}, np.float64)),
        ("[1]['b']", lambda x: [np.ones(1), Flat({"w": (2, 2), "b": x})]),
    ]
]
NAN = FLAT.zeros_like()
NAN["b"][1] = math.nan
REFUSALS += [
    (partial(Adam.step, Adam(params, nonfinite="raise"), grads), FloatingPointError, message)
    for params, grads, message in [
        (FLAT, NAN, "grads['b'] must be finite, got nan at index (1,)"),
        (
            [{"params": GOOD}, {"params": FLAT}],
            [np.ones(3), NAN],
            "grads[1]['b'] must be finite, got nan at index (1,)",
        ),
        ([{"params": [GOOD, FLAT]}], [[np.ones(3), NAN]], "grads[0][1]['b'] must be finite, got nan at index (1,)"),
    ]
]
REFUSALS += [
    (
        partial(SGD.step, SGD(np.zeros(2), max_grad_norm=1.0, nonfinite=nonfinite), np.full(2, 1e200)),
        OverflowError,
        "the norm of grads must be within float64 to be scaled to max_grad_norm, got infinity",
    )
    for nonfinite in ("propagate", "skip", "raise")
]
