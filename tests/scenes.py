"""What hypothesis draws for a call of a public function: arguments that fit, of which none, one or two are spoiled.

``FASTOPT_EXAMPLES=5000 pytest tests -k fuzz`` is the long run, of other examples each time; without it there are few,
and always the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real

import numpy as np
from cases import hard_numbers, same_bits
from hypothesis import HealthCheck, event, note, settings
from hypothesis import strategies as st

import fastopt
from fastopt import runtime

EXAMPLES = os.environ.get("FASTOPT_EXAMPLES")
fuzz = settings(
    max_examples=int(EXAMPLES or 220),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
REFUSALS = (TypeError, ValueError, IndexError, OverflowError, FloatingPointError)
MARGIN = 64  # bytes around each array that nobody may touch
SIZES = [0, 1, 2, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097]
REALS = [np.dtype(np.float32), np.dtype(np.float64)]
DTYPES = [*"fdegbBiqQ?FDO", "M8[s]", "m8[s]", "U3", "V4", "f4,i4"]
EDGES = [0.0, -0.0, 0.5, 1.0, 3.5, -1.5, 5e-324, 1e-300, 1e-46, 1e-40, 1e38, 1e39, 1e300, 1.7e308, math.nan, math.inf]
VAST = [-math.inf, 2**31, 2**53, 2**53 + 1, 2**62, 2**63, 2**64, 10**400, -(10**400), Fraction(1, 3), Fraction(10**400)]
OF_NUMPY = [np.float16(0.5), np.float32(0.1), np.float64(0.25), np.longdouble("1e4000"), np.int8(1), np.uint64(7)]
NUMBERS = [0, 1, 2, -1, *EDGES, *VAST, *OF_NUMPY, np.array(0.5), np.array(2), np.array(np.nan, "f4")]
LISTS = [[], (), {}, [0.5], (0.5, 0.5), (0.5, 0.5, 0.5), ("?!", None), [3, 4], [1, [2]], np.array([0.5]), range(3)]
TIMES = [np.timedelta64(1), np.timedelta64("NaT"), np.datetime64("NaT"), np.array("x"), np.array(True), np.bool_(True)]
THINGS = [None, True, False, "", "0.5", "mean", b"1", object(), Decimal("0.1"), math.sin, float, 1j, *TIMES, *LISTS]


class Own(np.ndarray):
    """A subclass of array, which is as good as one."""


class Foreign:
    """Something with ``__array_interface__`` and no buffer."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


class Scene:
    """An example: what it draws, and all memory that it gives away, each array between two margins."""

    def __init__(self, data):
        self.draw, self.blocks, self.spoiled = data.draw, [], []
        fastopt.set_isa(self.pick(runtime.available_isas()))
        fastopt.set_num_threads(self.pick([1, 1, 2]))

    def pick(self, options):
        options = list(options)
        return options[self.integer(len(options) - 1)]

    def number(self, least, most):
        return least + (most - least) * self.pick([0, 0.5, 1, self.integer(1000) / 1000])

    def integer(self, most):
        return self.draw(st.integers(0, most))

    def array(self, values, off=0):
        """Copy values into memory of its own, which begins ``off`` bytes behind a cache line."""
        values = np.asarray(values)
        if values.dtype.hasobject:
            return values
        block = np.full(values.nbytes + 2 * MARGIN + 128, 0xA5, np.uint8)
        begin = -block.ctypes.data % 64 + MARGIN + off
        view = block[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
        view[...] = values
        self.blocks.append(block)
        return view

    def reals(self, shape, dtype, kinds=("ordinary", "ordinary", "hard", "edges")):
        """Give an array of numbers of some kind."""
        kind, seed, size = self.pick(kinds), self.integer(999), math.prod(shape)
        rng, info = np.random.default_rng(seed), np.finfo(dtype)
        x = rng.normal(0, 1, size).astype(dtype)
        if kind == "hard":
            x = hard_numbers(size, dtype.type, seed)
        elif kind == "edges":
            edges = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, info.tiny / 8]
            x = np.where(rng.random(size) < rng.random(), rng.choice(np.array(edges, dtype), size), x)
        elif kind == "probabilities":
            x = np.where(rng.random(size) < 0.2, rng.integers(0, 2, size), rng.random(size)).astype(dtype)
        return self.array(x.reshape(shape), self.pick([0, 0, x.itemsize]))

    def shape(self, most=2):
        """Give a shape that has about one of the interesting sizes."""
        ndim = self.draw(st.integers(0, most))
        shape = [self.pick([1, 2, 3, 0]) for _ in range(ndim)]
        if shape:
            shape[self.integer(ndim - 1)] = self.pick(SIZES)
        return tuple(shape)

    def snapshot(self):
        return [array.tobytes() for array in self.blocks]

    def attempt(self, call, *more):
        """Give what a call gives and None, or None and the refusal, which has changed no byte, of ``more`` neither."""
        arrays = [*self.blocks, *(array for array in more if not array.dtype.hasobject)]  # what there is before it
        before, error = [array.tobytes() for array in arrays], None
        try:
            result = call()
        except REFUSALS as refusal:
            result, error = None, refusal
        event("refused" if error else "computed")
        assert not error or [array.tobytes() for array in arrays] == before, "bytes have changed"
        return result, error

    # Spoiling

    def spoil(self, arguments):
        """Replace none, one or two of the arguments."""
        for _ in range(self.pick([0, 0, 0, 1, 1, 2])):
            name = self.pick(sorted(arguments))
            arguments[name] = self.other(arguments[name], arguments.values())
            self.spoiled.append(name)
        return arguments

    def other(self, value, others):
        """Give something else in place of a value."""
        if isinstance(value, np.ndarray):
            return self.other_array(value, others)
        if isinstance(value, (list, tuple)) and value and self.pick([True, True, False]):
            i = self.integer(len(value) - 1)
            return type(value)([*value[:i], self.other(value[i], others), *value[i + 1 :]])
        if isinstance(value, dict) and value and self.pick([True, True, True, False]):
            name = self.pick(value)
            rest = {own: thing for own, thing in value.items() if own != name}
            return self.pick([{**value, name: self.other(value[name], others)}, rest, {**value, "x": value[name]}])
        if isinstance(value, (int, float)) and self.pick([True, True, False]):
            return self.pick(NUMBERS)
        return self.pick([*THINGS, *NUMBERS])

    def other_array(self, x, others):  # noqa: PLR0911  one for each way
        """Give another array, or hardly one, in place of a good one."""
        if x.dtype.kind not in "biufc":
            return x  # spoiled already
        ways = ["dtype", "order", "shape", "strides", "read-only", "misaligned", "masked", "list", "foreign", "view"]
        way = self.pick([*ways, "own", "scalar", "alias", "alias", "part", "part", "thing"])
        with np.errstate(all="ignore"):
            if way == "dtype":
                dtype = np.dtype(self.pick(DTYPES))
                return self.array(np.zeros(x.shape, dtype) if dtype.kind in "MmVO" else x.astype(dtype))
            if way == "order":
                return self.array(x.astype(x.dtype.newbyteorder()))
        if way == "shape":
            flat = x.ravel()
            longer = np.concatenate([flat, flat, np.ones(1, x.dtype)])
            return self.array(self.pick([x[None], x[..., None], flat, flat[:-1], longer, longer[-1], flat[:0], x.T]))
        if way == "strides":
            return self.strided(x)
        if way in {"alias", "part"}:
            found = [own for own in leaves(list(others)) if isinstance(own.base, np.ndarray)]
            return self.part_of(self.pick(found), x) if way == "part" and found else self.pick([*found, x])
        y = self.array(x, self.pick([1, 2, 3]) if way == "misaligned" else 0)
        if way == "read-only":
            y.flags.writeable = False
        if way == "thing":
            return self.pick([*THINGS, *NUMBERS])
        makers = {"masked": np.ma.array, "list": np.ndarray.tolist, "foreign": Foreign, "view": memoryview}
        makers |= {"own": lambda y: y.view(Own), "scalar": lambda y: y.dtype.type(1)}
        return makers.get(way, lambda y: y)(y)

    def strided(self, x):
        """Give the same numbers in another arrangement."""
        if not x.ndim:
            return np.broadcast_to(self.array(x), (3,))
        way = self.pick(["every other", "backwards", "transposed", "broadcast", "rows backwards"])
        if way == "every other":
            return self.array(np.repeat(x, 2, axis=-1))[..., ::2]
        if way == "broadcast":
            return np.broadcast_to(self.array(x.ravel()[:1]), x.shape) if x.size else x[..., :1]
        if way == "transposed":
            return self.array(x.T).T
        turn = np.s_[::-1] if way == "rows backwards" else np.s_[..., ::-1]
        return self.array(x[turn])[turn]

    def part_of(self, other, x):
        """Give an array like x that has some memory with another."""
        base = other.base
        begin = other.ctypes.data - base.ctypes.data + self.draw(st.integers(-3, 3)) * x.itemsize
        if base.dtype != np.uint8 or not 0 <= begin <= base.nbytes - x.nbytes:
            return other
        return base[begin : begin + x.nbytes].view(x.dtype).reshape(x.shape)

    # Judging

    def check(self, call, wanted_call, arguments, good, written=()):
        """Compare a call with the reference; ``good`` are the arguments before some were spoiled."""
        note(f"{arguments}")
        copies = {name: plain(value, good[name]) for name, value in arguments.items()}
        targets = {name: leaves(arguments.get(name)) for name in written}
        kept = [(array, array.copy()) for arrays in targets.values() for array in arrays if array.flags.writeable]
        before = self.snapshot()
        got, error = self.attempt(lambda: call(**arguments))
        if error:
            assert self.spoiled, error
            return None
        copies.pop("out", None)
        with np.errstate(all="ignore"):
            wanted = wanted_call(**copies)
        assert same(got, wanted)
        for array in targets.pop("out", []):  # it is the result, which may be one of several
            assert not array.size or any(np.shares_memory(array, own) for own in leaves(got))
        for name, arrays in targets.items():
            assert all(map(same, arrays, leaves(copies.get(name)))), name
        for array, copy in kept:  # with that put back, nothing has changed
            array[...] = copy
        assert (self.snapshot() == before) is True
        return got


def as_array(value):
    return np.asarray(value.array if isinstance(value, Foreign) else value)


def plain(value, good):  # noqa: PLR0911  one for each kind
    """Give what the reference takes for a value that stands where ``good`` would."""
    if isinstance(good, (bool, str)) or callable(value) or isinstance(value, bool):
        return value
    if isinstance(good, (int, float)):
        value = value.item() if isinstance(value, (np.ndarray, np.generic)) and value.shape == () else value
        if isinstance(value, Real) and (isinstance(good, float) or not isinstance(value, Integral)):
            return as_float(value)
        return value
    if isinstance(value, (np.ndarray, Foreign, memoryview)) or (isinstance(good, np.ndarray) and value is not None):
        with suppress(ValueError):  # lists of different lengths
            return np.array(as_array(value))
    if isinstance(value, (tuple, list)) and isinstance(good, (tuple, list)) and len(good) == len(value):
        return type(value)(plain(own, like) for own, like in zip(value, good, strict=True))
    if isinstance(value, fastopt.Flat):
        return value.copy()
    if isinstance(value, dict) and isinstance(good, dict):
        return {name: plain(own, good.get(name)) for name, own in value.items()}
    return value


def as_float(value):
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def leaves(thing):
    """Give all arrays in a thing."""
    if isinstance(thing, (np.ndarray, Foreign, memoryview)):
        return [as_array(thing)]
    if isinstance(thing, (np.generic, fastopt.Flat)):
        return [np.asarray(thing) if isinstance(thing, np.generic) else thing.buffer]
    if isinstance(thing, Mapping):
        return [array for own in thing.values() for array in leaves(own)]
    return [array for own in thing for array in leaves(own)] if isinstance(thing, (tuple, list)) else []


def same(got, wanted):
    """Whether two results are the same, to the bit."""
    if isinstance(wanted, (tuple, list)):
        return len(got) == len(wanted) and all(map(same, got, wanted))
    if wanted is None or isinstance(wanted, (bool, str)):
        return got is wanted or got == wanted
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.dtype.kind == "f" and got.dtype.itemsize <= 8:
        return same_bits(got, wanted)
    return got.dtype == wanted.dtype and np.array_equal(got, wanted, equal_nan=got.dtype.kind in "fc")


def things(scene):
    """Give a function that makes things of one form that an optimizer takes."""
    kind = scene.pick(["array", "list", "tuple", "dict", "Flat"])
    form = [(scene.shape(), scene.pick(REALS)) for _ in range(1 if kind in {"array", "Flat"} else scene.integer(3))]

    def make(kinds=("ordinary", "ordinary", "hard", "edges")):
        arrays = [scene.reals(*each, kinds) for each in form]
        if kind == "dict":
            return {f"w{i}": array for i, array in enumerate(arrays)}
        if kind == "Flat":
            return fastopt.Flat.from_buffer({"w": (arrays[0].size,)}, arrays[0].ravel())
        return {"array": lambda x: x[0], "list": list, "tuple": tuple}[kind](arrays)

    return make


def with_out(scene, arguments, x, also=()):
    """Add where the result goes: a new array, one that is given, or perhaps x."""
    return {**arguments, "out": scene.pick([None, None, scene.array(np.zeros_like(x)), *also])}


def rate(step):
    return 0.1 / (step + 1)
