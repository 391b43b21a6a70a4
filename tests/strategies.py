"""Hypothesis strategies for calls of public functions: valid arguments, of which none, one or two are then replaced.

Every array lies between guard bytes, so `GuardedMemory` also notices a write outside it.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import pytest
from cases import hard_numbers, read_only, same_bits
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastopt
from fastopt import runtime

REFUSALS = (TypeError, ValueError, IndexError, OverflowError, FloatingPointError)
GUARD = 64  # bytes on each side of an array
MIN_DIMS = 0 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 1  # NumPy 1 turns those without into float64
EXAMPLES = os.environ.get("FASTOPT_EXAMPLES")
TIERS = [pytest.param(12, id="few"), pytest.param(100, id="many", marks=pytest.mark.slow)]
LIMITS = settings(
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def fuzz(**strategies):
    """Run a test with drawn arguments: few examples by default, many in the slow tier, FASTOPT_EXAMPLES if set."""

    def decorate(test):
        def run(examples, **others):
            settings(LIMITS, max_examples=examples)(given(**strategies)(test))(**others)

        names = ["examples", *(name for name in inspect.signature(test).parameters if name not in strategies)]
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        run.__name__, run.__doc__, run.__signature__ = test.__name__, test.__doc__, inspect.Signature(parameters)
        return pytest.mark.parametrize("examples", [int(EXAMPLES)] if EXAMPLES else TIERS)(run)

    return decorate


# Memory


class GuardedMemory:
    """A copy of all bytes of some arrays and of their guards."""

    def __init__(self, *values):
        self.blocks = [owner(array) for array in leaves(values) if not array.dtype.hasobject]
        self.copies = [block.tobytes() for block in self.blocks]

    def unchanged(self):
        return all(block.tobytes() == copy for block, copy in zip(self.blocks, self.copies, strict=True))


def guarded(values, offset=0):
    """Return a copy of an array between guard bytes, which begins ``offset`` bytes past a cache line."""
    values = np.asarray(values)
    block = np.full(values.nbytes + 2 * GUARD + 128, 0xA5, np.uint8)
    begin = -block.ctypes.data % 64 + GUARD + offset
    array = block[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    array[...] = values
    return array


def owner(array):
    """Return the array that owns the memory of another."""
    while isinstance(array.base, (np.ndarray, memoryview)):
        array = array.base if isinstance(array.base, np.ndarray) else np.asarray(array.base.obj)
    return array


def leaves(value):
    """Return all arrays in a nested container."""
    if isinstance(value, (np.ndarray, np.generic, Foreign, memoryview)):
        return [as_array(value)]
    if isinstance(value, fastopt.Flat):
        return [value.buffer]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return [array for item in value for array in leaves(item)] if isinstance(value, (tuple, list)) else []


def attempt(function, *memory):
    """Return the result and the exception of a call, one of them None; an exception must have left memory unchanged."""
    memory = GuardedMemory(*memory)
    try:
        result, error = function(), None
    except REFUSALS as refusal:
        result, error = None, refusal
    event("raises" if error else "returns")
    assert error is None or memory.unchanged(), "a call that raises has changed memory"
    return result, error


# Valid values

DTYPES = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])
SIZES = st.sampled_from([1, 2, 3, 0, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097])  # on each side of a vector and a chunk
SEEDS, STEPS = st.integers(0, 2**64 - 1), st.integers(0, 2**53 - 1)
FLAGS = st.booleans()
ORDINARY, PROBABILITIES = (-4, 4), (0, 1)  # bounds of the elements of an array


def numbers(least, most):
    """Return a strategy for hyperparameters: floats within float16's range, so that no coefficient is denormal."""
    return st.floats(least, most, width=16)


@st.composite
def shapes(draw, max_dims=2):
    """Draw a shape of small dimensions, one of which may have a size that matters to a kernel."""
    shape = list(draw(hnp.array_shapes(min_dims=MIN_DIMS, max_dims=max_dims, min_side=0, max_side=3)))
    if shape:
        shape[draw(st.integers(0, len(shape) - 1))] = draw(SIZES)
    return tuple(shape)


@st.composite
def arrays(draw, dtype, shape, bounds=None):
    """Draw a guarded array with elements within bounds, or with any."""
    dtype = np.dtype(dtype)
    if bounds is None and dtype.kind == "f" and draw(st.booleans()):
        values = hard_numbers(math.prod(shape), dtype.type, draw(st.integers(0, 99))).reshape(shape)
    else:
        limits = dict(zip(("min_value", "max_value"), bounds or (), strict=False))
        values = draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, **limits)))
    return guarded(values, draw(st.sampled_from([0, dtype.itemsize])))


def zeros_like(x):
    """Draw None or a guarded array to write into."""
    return st.none() | st.builds(lambda: guarded(np.zeros_like(x)))


def rate(step):
    """Return the learning rate of a step, as a schedule does."""
    return 0.1 / (step + 1)


# Other values


class Subclass(np.ndarray):
    """A subclass of array without behavior of its own."""


class Foreign:
    """An object with ``__array_interface__`` but no buffer."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


any_number = st.floats() | st.integers() | st.fractions()
any_number |= st.sampled_from([np.float16(0.5), np.float32(0.1), np.finfo(np.longdouble).max, np.int8(1), np.uint64(7)])
any_number |= st.sampled_from([2**53 + 1, 2**62, 2**63, 10**400, Fraction(10**400), np.array(0.5), np.array(2)])
anything = any_number | st.sampled_from([None, True, False, "", "0.5", "mean", b"1", object(), 1j, math.sin, float])
anything |= st.sampled_from([[], (), {}, [0.5], (0.5, 0.5), (0.5, 0.5, 0.5), ("?!", None), [3, 4], [1, [2]], range(3)])
anything |= st.decimals() | st.sampled_from([np.datetime64("NaT", "s"), np.array("x"), np.array(True), np.bool_(True)])
other_dtypes = st.sampled_from([*"fdegbBiqQ?FDO", "M8[s]", "m8[s]", "U3", "V4", "f4,i4"]).map(np.dtype)
ARRAYS = [  # made from a valid array; some are valid, too
    guarded,
    np.ndarray.tolist,
    lambda x: x.dtype.type(1),
    lambda x: memoryview(guarded(x)),
    lambda x: Foreign(guarded(x)),
    lambda x: guarded(x).view(Subclass),
    lambda x: np.ma.array(guarded(x)),
    lambda x: read_only(guarded(x)),
    lambda x: cast(x, x.dtype.newbyteorder()),
    lambda x: guarded(x.ravel()),
    lambda x: guarded(x.ravel()[:-1]),
    lambda x: guarded(np.resize(x, 2 * x.size + 1)),
    lambda x: guarded(x[None]),
    lambda x: guarded(x[..., None]),
    lambda x: guarded(x.T),
    lambda x: guarded(x.T).T,
    lambda x: guarded(np.atleast_1d(x)[::-1])[::-1],
    lambda x: guarded(np.atleast_1d(x)[..., ::-1])[..., ::-1],
    lambda x: guarded(np.repeat(np.atleast_1d(x), 2, axis=-1))[..., ::2],
    lambda x: np.broadcast_to(guarded(x.ravel()[:1]), x.shape or 3) if x.size else guarded(x),
]


ODD_ARRAYS = [  # of the same shape and values
    guarded,
    partial(guarded, offset=1),
    lambda x: guarded(x.T).T,
    lambda x: guarded(np.repeat(x[..., None], 2, axis=-1))[..., 0],
    lambda x: guarded(x[::-1])[::-1] if x.ndim else x,
    lambda x: memoryview(guarded(x)),
    lambda x: Foreign(guarded(x)),
    lambda x: guarded(x).view(Subclass),
    lambda x: cast(x, x.dtype.newbyteorder()),
]


def odd_arrays(x):
    """Return a strategy for gradients in place of x that ``convert_grads`` accepts."""
    others = st.sampled_from("?bBhHiIqQefdg").map(np.dtype)
    return st.sampled_from(ODD_ARRAYS).map(lambda make: make(x)) | st.builds(partial(cast, x), others)


def cast(x, dtype):
    with np.errstate(all="ignore"):
        values = np.zeros(x.shape, dtype) if dtype.kind in "MmVO" else x.real.astype(dtype)
    return values if dtype.hasobject else guarded(values)


def overlapping(x, target, shift):
    """Return an array like x in the memory of another, some elements further on, or the other array."""
    block, begin = owner(target), target.ctypes.data - owner(target).ctypes.data + shift * x.itemsize
    if block.dtype != np.uint8 or not 0 <= begin <= block.nbytes - x.nbytes:
        return target
    return block[begin : begin + x.nbytes].view(x.dtype).reshape(x.shape)


def other_arrays(x, others):
    """Return a strategy for arrays and array-likes in place of x; a few of them are as good as x."""
    if x.dtype.kind not in "biufc":
        return st.just(x)
    targets = st.sampled_from([x, *(array for array in others if isinstance(array.base, np.ndarray))])
    return either(
        st.sampled_from(ARRAYS).map(lambda make: make(x)),
        st.builds(partial(cast, x), other_dtypes),
        st.builds(partial(guarded, x), st.integers(1, 3)),  # misaligned
        targets,
        targets.map(lambda array: array[::-1] if array.ndim else array),
        st.builds(partial(overlapping, x), targets, st.integers(-3, 3)),
        anything,
    )


def either(*strategies):
    """Return a strategy that uses each of some strategies equally often, although one may have many branches."""
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


def replacements(value, others=()):
    """Return a strategy for values in place of a valid one; some of them are valid, too."""
    if isinstance(value, np.ndarray):
        return other_arrays(value, leaves(list(others)))
    if isinstance(value, (list, tuple)) and value:
        index = st.integers(0, len(value) - 1)
        replaced = index.flatmap(
            lambda i: replacements(value[i], others).map(lambda new: type(value)([*value[:i], new, *value[i + 1 :]]))
        )
        return either(replaced, replaced, anything)
    if isinstance(value, dict) and value:
        names = st.sampled_from(sorted(value, key=str))
        replaced = names.flatmap(lambda name: replacements(value[name], others).map(lambda new: {**value, name: new}))
        removed = names.map(lambda name: {other: item for other, item in value.items() if other != name})
        added = names.map(lambda name: {**value, "x": value[name]})
        return either(replaced, replaced, removed, added, anything)
    return any_number | anything if isinstance(value, (int, float)) else anything


@st.composite
def replace_some(draw, valid):
    """Draw the names of none, one or two arguments, and the arguments with those replaced."""
    names = draw(st.lists(st.sampled_from(sorted(valid)), max_size=2) | st.just([])) if valid else []
    arguments = dict(valid)
    for name in names:
        arguments[name] = draw(replacements(arguments[name], arguments.values()))
    return set(names), arguments


# Calls


@dataclass
class Call:
    """Arguments, the valid ones that they replace, and the names of those that were replaced."""

    arguments: dict[str, Any]
    valid: dict[str, Any]
    replaced: set[str]

    def attempt(self, function, *memory):
        """Call a function; valid arguments must not raise."""
        note(f"{self.arguments}, replaced: {self.replaced}")
        result, error = attempt(lambda: function(**self.arguments), self.valid, self.arguments, *memory)
        assert error is None or self.replaced, error
        return result, error

    def check(self, function, reference, written=()):
        """Compare the result, and the arrays that are written, with those of the reference; return the result."""
        copies = {name: plain(value, self.valid[name]) for name, value in self.arguments.items()}
        targets = {name: leaves(self.arguments.get(name)) for name in written}
        kept = [(array, array.copy()) for arrays in targets.values() for array in arrays if array.flags.writeable]
        memory = GuardedMemory(self.valid, self.arguments)
        got, error = self.attempt(function)
        if error:
            return None
        copies.pop("out", None)
        with np.errstate(all="ignore"):
            wanted = reference(**copies)
        assert same(got, wanted)
        for array in targets.pop("out", []):  # it is the result, or one of several
            assert not array.size or any(np.shares_memory(array, result) for result in leaves(got))
        for name, arrays in targets.items():
            assert all(map(same, arrays, leaves(copies.get(name)))), name
        for array, copy in kept:
            array[...] = copy
        assert memory.unchanged(), "the call has written elsewhere"
        return got


@st.composite
def calls(draw, valid):
    """Draw a call, and set the instruction set and the number of threads that it runs with."""
    fastopt.set_isa(draw(st.sampled_from(runtime.available_isas())))
    fastopt.set_num_threads(draw(st.sampled_from([1, 2])))
    valid = draw(valid) if isinstance(valid, st.SearchStrategy) else valid
    replaced, arguments = draw(replace_some(valid))
    return Call(arguments, valid, replaced)


def as_array(value):
    return np.asarray(value.array if isinstance(value, Foreign) else value)


def as_float(value):
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def plain(value, valid):  # noqa: PLR0911  one for each kind of value
    """Return a copy of a value in the type that the reference takes in place of ``valid``."""
    if isinstance(valid, (bool, str)) or callable(value) or isinstance(value, bool):
        return value
    if isinstance(valid, (int, float)):
        value = value.item() if isinstance(value, (np.ndarray, np.generic)) and value.shape == () else value
        is_float = isinstance(value, Real) and (isinstance(valid, float) or not isinstance(value, Integral))
        return as_float(value) if is_float else value
    if isinstance(value, (np.ndarray, Foreign, memoryview)) or (isinstance(valid, np.ndarray) and value is not None):
        with suppress(ValueError):  # lists of different lengths
            return np.array(as_array(value))
    if isinstance(value, (tuple, list)) and isinstance(valid, (tuple, list)) and len(valid) == len(value):
        return type(value)(map(plain, value, valid))
    if isinstance(value, fastopt.Flat):
        return value.copy()
    if isinstance(value, dict) and isinstance(valid, dict):
        return {name: plain(item, valid.get(name)) for name, item in value.items()}
    return value


def same(got, wanted):
    """Return whether two results have the same bits."""
    if isinstance(wanted, (tuple, list)):
        return len(got) == len(wanted) and all(map(same, got, wanted))
    if wanted is None or isinstance(wanted, (bool, str)):
        return got is wanted or got == wanted
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.dtype.kind == "f" and got.dtype.itemsize <= 8:
        return same_bits(got, wanted)
    return got.dtype == wanted.dtype and np.array_equal(got, wanted, equal_nan=got.dtype.kind in "fc")
