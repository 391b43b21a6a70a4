"""Promise 4: what can't be done is an exception that names argument, got and wanted; and no byte changes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import fastopt


def readonly(array):
    array.flags.writeable = False
    return array


def misaligned(size, dtype=np.float32):
    return np.zeros(size * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype)


class Foreign:
    """Something with ``__array_interface__`` and no buffer."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


class Broken:
    """Something with an ``__array_interface__`` that says nothing."""

    __array_interface__ = {"version": 3}  # noqa: RUF012


def snapshot(*arrays):
    return [np.asarray(array).tobytes() for array in arrays]


@dataclass
class Refused:
    """What is wrong, how it is told."""

    what: Any
    error: type[Exception]
    says: str


ARRAYS = {
    "a list of numbers": Refused([1.0, 2.0], TypeError, r"params\[0\] is 'float'; wants an array"),
    "None": Refused(None, TypeError, r"params is 'NoneType'; wants an array"),
    "a number": Refused(1.0, TypeError, r"params is 'float'; wants an array"),
    "a generator": Refused((x for x in [np.zeros(2)]), TypeError, r"params is 'generator'; wants an array"),
    "a string": Refused("w", TypeError, r"params is 'str'; wants an array"),
    "bytes": Refused(bytearray(8), TypeError, r"params has dtype 'B'; wants float32 or float64"),
    "int64": Refused(np.arange(4), TypeError, r"params has dtype int64; wants float32 or float64"),
    "float16": Refused(np.ones(4, np.float16), TypeError, r"params has dtype float16; wants float32 or float64"),
    "complex": Refused(np.ones(4, np.complex64), TypeError, r"params has dtype complex64; wants float32 or float64"),
    "longdouble": Refused(np.ones(4, np.longdouble), TypeError, r"params has dtype (longdouble|float128); wants"),
    "a date": Refused(np.zeros(4, "M8[s]"), TypeError, r"params has dtype datetime64\[s\]; wants float32 or float64"),
    "objects": Refused(np.array([1.0, None]), TypeError, r"params has dtype object; wants float32 or float64"),
    "a structure": Refused(np.zeros(4, [("x", "f4")]), TypeError, r"params has dtype .*; wants float32 or float64"),
    "byte-swapped": Refused(
        np.ones(4, np.dtype("f4").newbyteorder()), TypeError, r"params has dtype .f4 \(byte-swapped\); wants float32"
    ),
    "every other": Refused(
        np.ones(8)[::2], ValueError, r"params is not C-contiguous: shape \(4,\), strides \(16,\).*wants"
    ),
    "backwards": Refused(np.ones(8)[::-1], ValueError, r"params is not C-contiguous.*wants a C-contiguous"),
    "transposed": Refused(np.ones((2, 3)).T, ValueError, r"params is not C-contiguous.*wants a C-contiguous"),
    "broadcast": Refused(np.broadcast_to(np.ones(3), (2, 3)), ValueError, r"params is not C-contiguous.*wants"),
    "read-only": Refused(readonly(np.ones(4)), ValueError, r"params is read-only; wants an array that can be written"),
    "a NumPy scalar": Refused(np.float32(1), ValueError, r"params is read-only; wants"),
    "misaligned": Refused(misaligned(4), ValueError, r"params is misaligned: address 0x.*; wants a multiple of 4"),
    "foreign and read-only": Refused(Foreign(readonly(np.ones(3))), ValueError, r"params is read-only; wants"),
    "masked": Refused(np.ma.ones(3), TypeError, r"params is a masked array; wants one without a mask"),
    "a broken interface": Refused(Broken(), TypeError, r"params has an __array_interface__ that NumPy refuses"),
    "foreign and int": Refused(Foreign(np.arange(3)), TypeError, r"params has dtype int64; wants float32"),
}


@pytest.mark.parametrize("refused", ARRAYS.values(), ids=ARRAYS)
def test_parameters(refused):
    kept = np.ones(3)
    held = refused.what if isinstance(refused.what, np.ndarray) else kept
    before = snapshot(held)
    with pytest.raises(refused.error, match=rf"^{refused.says}"):
        fastopt.Adam(refused.what)
    for params, name in (
        ([kept, refused.what], r"params\[1\]"),
        ({"a": kept, "w": refused.what}, r"params\['w'\]"),
        ([{"params": kept}, {"params": {"w": refused.what}}], r"params\[1\]\['w'\]"),
    ):
        if isinstance(refused.what, list):
            continue
        with pytest.raises(refused.error, match="^" + refused.says.replace("params", name)):
            fastopt.Adam(params)
    assert snapshot(held) == before
    assert (kept == 1).all()


GRADS = {
    "a list": Refused(lambda p: [1.0] * 4, TypeError, r"is 'list'; wants an array"),
    "None": Refused(lambda p: None, TypeError, r"is .*None.*; wants"),
    "another type": Refused(lambda p: np.ones(4), TypeError, r"has dtype float64; wants float32, as its parameter"),
    "int": Refused(lambda p: np.ones(4, np.int32), TypeError, r"has dtype int32; wants float32, as its parameter"),
    "byte-swapped": Refused(
        lambda p: np.ones(4, np.dtype("f4").newbyteorder()), TypeError, r"has dtype .f4 \(byte-swapped\); wants float32"
    ),
    "too short": Refused(lambda p: np.ones(3, "f"), ValueError, r"has shape \(3,\); wants \(4,\), as its parameter"),
    "empty": Refused(lambda p: np.ones(0, "f"), ValueError, r"has shape \(0,\); wants \(4,\), as its parameter"),
    "another shape": Refused(lambda p: np.ones((2, 2), "f"), ValueError, r"has shape \(2, 2\); wants \(4,\)"),
    "no shape": Refused(lambda p: np.ones((), "f"), ValueError, r"has shape \(\); wants \(4,\), as its parameter"),
    "every other": Refused(lambda p: np.ones(8, "f")[::2], ValueError, r"is not C-contiguous.*; wants a C-contiguous"),
    "broadcast": Refused(lambda p: np.broadcast_to(np.float32(1), 4), ValueError, r"is not C-contiguous"),
    "masked": Refused(lambda p: np.ma.ones(4, "f"), TypeError, r"is a masked array; wants one without a mask"),
    "misaligned": Refused(lambda p: misaligned(4), ValueError, r"is misaligned: address 0x.*; wants a multiple of 4"),
    "the parameter": Refused(lambda p: p, ValueError, r"and params.* overlap in memory; each wants memory of its own"),
    "its last element": Refused(lambda p: p.base[6:10], ValueError, r"and params.* overlap in memory; each wants mem"),
    "its first element": Refused(
        lambda p: p.base[:4], ValueError, r"and params.* overlap in memory; each wants memory"
    ),
}


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9, "zero_grads": True, "max_grad_norm": 1.0}], ids=["", "all"])
@pytest.mark.parametrize("refused", GRADS.values(), ids=GRADS)
def test_gradients(refused, options):
    for make, name in (
        (lambda x: x, r"grads "),
        (lambda x: [np.ones(2), x], r"grads\[1\] "),
        (lambda x: {"b": np.ones(2), "w": x}, r"grads\['w'\] "),
    ):
        param = np.ones(10, np.float32)[3:7]
        optimizer = fastopt.Adam(make(param), **options)
        good = np.full(4, 0.5, np.float32)
        optimizer.step(make(good.copy()))
        bad = refused.what(param)
        watched = [param, *leaves(optimizer.state)] + ([bad] if isinstance(bad, np.ndarray) else [])
        before = snapshot(*watched)
        for _ in range(2):  # what was refused once is not known as good
            with pytest.raises(refused.error, match="^" + name + refused.says):
                optimizer.step(make(bad))
        assert snapshot(*watched) == before
        assert optimizer.steps == 1
        optimizer.step(make(good))  # it goes on as if nothing had been


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "ema"])
def test_a_gradient_that_is_a_state(name):
    param = np.ones(4)
    optimizer = fastopt.Adam(param, ema_decay=0.5)
    before = snapshot(param, *leaves(optimizer.state))
    with pytest.raises(ValueError, match=rf"^grads and {name} overlap in memory; each wants memory of its own"):
        optimizer.step(optimizer.state[name])
    assert snapshot(param, *leaves(optimizer.state)) == before


def test_gradients_may_overlap_unless_they_are_written():
    shared = np.ones(6)
    params = [np.zeros(4), np.zeros(4)]
    fastopt.SGD(params, lr=1.0).step([shared[:4], shared[2:]])
    assert (params[0] == -1).all()
    optimizer = fastopt.SGD(params, lr=1.0, zero_grads=True)
    before = snapshot(*params, shared)
    with pytest.raises(ValueError, match=r"^grads\[0\] and grads\[1\] overlap in memory; each wants memory of its own"):
        optimizer.step([shared[:4], shared[2:]])
    assert snapshot(*params, shared) == before


def test_a_read_only_gradient_is_read_but_not_zeroed():
    param, grad = np.zeros(4), readonly(np.ones(4))
    fastopt.SGD(param, lr=1.0).step(grad)
    before = snapshot(param, grad)
    with pytest.raises(ValueError, match=r"^grads is read-only; wants an array that can be written"):
        fastopt.SGD(param, lr=1.0, zero_grads=True).step(grad)
    assert snapshot(param, grad) == before


def test_parameters_that_overlap():
    memory = np.ones(10)
    before = snapshot(memory)
    with pytest.raises(ValueError, match=r"^params\['a'\] and params\['b'\] overlap in memory; each wants memory of"):
        fastopt.SGD({"a": memory[:6], "b": memory[5:]})
    with pytest.raises(ValueError, match=r"^params\[0\] and params\[1\]\[0\] overlap in memory"):
        fastopt.SGD([{"params": memory}, {"params": [memory]}])
    assert snapshot(memory) == before
    fastopt.SGD({"a": memory[:5], "b": memory[5:]})  # side by side is no overlap


flat = fastopt.Flat({"w": (2, 2), "b": 2})
STRUCTURES = {
    "too few": Refused(
        ([np.ones(2), np.ones(2)], [np.ones(2)]), ValueError, r"grads has 1 arrays; wants 2, one for each"
    ),
    "too many": Refused(([np.ones(2)], [np.ones(2)] * 2), ValueError, r"grads has 2 arrays; wants 1, one for each"),
    "an array for a list": Refused(
        ([np.ones(2)], np.ones(2)), TypeError, r"grads is a 'ndarray'; wants a list or tuple"
    ),
    "a list for names": Refused(
        ({"w": np.ones(2)}, [np.ones(2)]), TypeError, r"grads is a 'list'; wants a mapping with"
    ),
    "other names": Refused(
        ({"w": np.ones(2), "b": np.ones(1)}, {"w": np.ones(2), "c": np.ones(1)}),
        ValueError,
        r"grads lacks \['b'\] and has \['c'\] beyond; wants the names \['w', 'b'\]",
    ),
    "a name too many": Refused(
        ({"w": np.ones(2)}, {"w": np.ones(2), "c": np.ones(1)}), ValueError, r"grads lacks \[\] and has \['c'\] beyond"
    ),
    "a dict for a Flat": Refused(
        (flat, dict(flat)), TypeError, r"grads is a 'dict'; wants a Flat of the parameters' l"
    ),
    "a buffer for a Flat": Refused((flat, flat.buffer), TypeError, r"grads is a 'ndarray'; wants a Flat"),
    "another layout": Refused(
        (flat, fastopt.Flat({"b": 2, "w": (2, 2)})), ValueError, r"grads has the layout \{'b'.*; wants \{'w'"
    ),
    "a Flat of another type": Refused(
        (flat, fastopt.Flat({"w": (2, 2), "b": 2}, np.float64)), TypeError, r"grads has dtype float64; wants float32"
    ),
    "the Flat itself": Refused((flat, flat), ValueError, r"grads and params overlap in memory"),
    "one for groups": Refused(
        ([{"params": np.ones(2)}, {"params": np.ones(2)}], np.ones(2)),
        TypeError,
        r"grads is 'ndarray'; wants a list of 2",
    ),
    "a group too few": Refused(
        ([{"params": np.ones(2)}, {"params": np.ones(2)}], [np.ones(2)]),
        TypeError,
        r"grads is 1 items; wants a list of 2",
    ),
}


@pytest.mark.parametrize("refused", STRUCTURES.values(), ids=STRUCTURES)
def test_structures(refused):
    params, grads = refused.what
    optimizer = fastopt.Momentum(params)
    watched = [*leaves(params), *leaves(grads), *leaves(optimizer.state)]
    assert watched
    before = snapshot(*watched)
    with pytest.raises(refused.error, match="^" + refused.says):
        optimizer.step(grads)
    assert snapshot(*watched) == before
    assert optimizer.steps == 0


def leaves(thing):
    """All arrays in a thing."""
    if isinstance(thing, np.ndarray):
        return [thing]
    return [array for part in (thing.values() if isinstance(thing, Mapping) else thing) for array in leaves(part)]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 5)])
def test_empty_arrays_are_a_no_op(shape):
    other = np.ones(2)
    optimizer = fastopt.Adam([np.ones(shape), other], max_grad_norm=1.0, ema_decay=0.5, zero_grads=True)
    optimizer.step([np.ones(shape), np.ones(2)])
    assert optimizer.steps == 1
    assert (other < 1).all()
    for nothing, grads in (([], []), ({}, {}), (fastopt.Flat({}), fastopt.Flat({})), (np.ones(shape), np.ones(shape))):
        optimizer = fastopt.Adam(nothing, max_grad_norm=1.0, nonfinite="raise")
        optimizer.step(grads)
        assert (optimizer.steps, optimizer.grad_norm) == (1, 0.0)


def test_foreign_buffers_are_welcome(tmp_path):
    mapped = np.memmap(tmp_path / "p.bin", np.float64, "w+", shape=(4,))
    for param in (array("d", [1.0] * 4), memoryview(np.ones(4)), Foreign(np.ones(4)), mapped, np.ones((2, 2))[:1, 0:]):
        values = np.asarray(param)
        values[...] = 1
        fastopt.SGD(param, lr=0.5).step(np.ones(values.shape))
        assert (values == 0.5).all()


def test_a_mapping_that_makes_new_arrays(tmp_path):
    np.savez(tmp_path / "saved.npz", w=np.ones(3))
    with np.load(tmp_path / "saved.npz") as saved:
        with pytest.raises(
            TypeError, match=r"^params is a 'NpzFile', which makes a new array whenever asked for 'w'; wants"
        ):
            fastopt.SGD(saved)
        fastopt.SGD(dict(saved))


def test_a_step_within_a_step():
    class Nested:
        @property
        def __array_interface__(self):
            optimizer.step(np.ones(3))
            return np.ones(3).__array_interface__

    param = np.ones(3)
    optimizer = fastopt.SGD(param, lr=1.0)
    with pytest.raises(RuntimeError, match=r"^this optimizer is in use already"):
        optimizer.step(Nested())
    assert (param == 1).all()
    optimizer.step(np.ones(3))
    assert (param == 0).all()


def test_what_a_plan_points_to_is_held():
    memory = bytearray(32)
    optimizer = fastopt.SGD(np.frombuffer(memory, np.float64))
    with pytest.raises(BufferError):
        memory.extend(b"more")
    grad = bytearray(32)
    optimizer.step(memoryview(grad).cast("d"))
    grad.extend(b"a gradient is held during the step alone")


KERNELS = {
    "a state too few": Refused(
        lambda k, a: k.adam(a, a.copy(), a.copy(), a.copy(), step=1, amsgrad=True),
        TypeError,
        r"kernels.adam got param, grad, exp_avg, exp_avg_sq; wants .*, max_exp_avg_sq for these",
    ),
    "too few": Refused(
        lambda k, a: k.adam(a, a.copy(), step=1), TypeError, r"kernels.adam: missing a required .*'exp_avg'"
    ),
    "too many": Refused(
        lambda k, a: k.sgd(a, a, a, a, step=1), TypeError, r"kernels.sgd: too many positional arguments; wants \(param"
    ),
    "one not wanted": Refused(
        lambda k, a: k.sgd(a, a.copy(), a.copy(), step=1),
        TypeError,
        r"kernels.sgd got .*momentum_buffer; wants param, gr",
    ),
    "one twice": Refused(
        lambda k, a: k.sgd(a, a.copy(), param=a.copy(), step=1),
        TypeError,
        r"kernels.sgd: multiple values for argument 'p",
    ),
    "no step": Refused(lambda k, a: k.sgd(a, a.copy()), TypeError, r"kernels.sgd: missing a required .*'step'; wants"),
    "step 0": Refused(lambda k, a: k.sgd(a, a.copy(), step=0), ValueError, r"step must be an int >= 1, got 0"),
    "no scale": Refused(
        lambda k, a: k.sgd(a, a.copy(), step=1, scale=math.nan), ValueError, r"scale must be a finite number.*, got nan"
    ),
    "a schedule": Refused(
        lambda k, a: k.sgd(a, a.copy(), step=1, lr=lambda s: 1), TypeError, r"lr must be a finite number.*, got .*"
    ),
    "an option": Refused(
        lambda k, a: k.sgd(a, a.copy(), step=1, beta=1),
        TypeError,
        r"kernels.sgd: got an unexpected keyword argument 'beta'; wants",
    ),
    "a range": Refused(
        lambda k, a: k.sgd(a, a.copy(), step=1, lr=-1), ValueError, r"lr must be a finite number >= 0, got -1"
    ),
    "overlap": Refused(lambda k, a: k.sgd(a, a, step=1), ValueError, r"grad and param overlap in memory"),
    "a state's shape": Refused(
        lambda k, a: k.momentum(a, a.copy(), np.ones(3), step=1), ValueError, r"momentum_buffer has shape \(3,\); wants"
    ),
}


@pytest.mark.parametrize("refused", KERNELS.values(), ids=KERNELS)
def test_bare_calls(refused):
    param = np.ones(4)
    with pytest.raises(refused.error, match="^" + refused.says):
        refused.what(fastopt.kernels, param)
    assert (param == 1).all()
