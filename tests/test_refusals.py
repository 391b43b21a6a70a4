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
    "a list of numbers": Refused([1.0, 2.0], TypeError, r"params\[0\] must be an array .*, got 'float'"),
    "None": Refused(None, TypeError, r"params must be an array .*, got 'NoneType'"),
    "a number": Refused(1.0, TypeError, r"params must be an array .*, got 'float'"),
    "a generator": Refused((x for x in [np.zeros(2)]), TypeError, r"params must be an array .*, got 'generator'"),
    "a string": Refused("w", TypeError, r"params must be an array .*, got 'str'"),
    "bytes": Refused(bytearray(8), TypeError, r"params must have dtype float32 or float64.*, got 'B'"),
    "int64": Refused(np.arange(4), TypeError, r"params must have dtype float32 or float64.*, got int64"),
    "float16": Refused(np.ones(4, np.float16), TypeError, r"params must have dtype float32 or float64.*, got float16"),
    "complex": Refused(np.ones(4, np.complex64), TypeError, r"params must have dtype float32 or float64.*, got complex64"),
    "longdouble": Refused(np.ones(4, np.longdouble), TypeError, r"params must have dtype .*, got (longdouble|float128)"),
    "a date": Refused(np.zeros(4, "M8[s]"), TypeError, r"params must have dtype float32 or float64.*, got datetime64\[s\]"),
    "objects": Refused(np.array([1.0, None]), TypeError, r"params must have dtype float32 or float64.*, got object"),
    "a structure": Refused(np.zeros(4, [("x", "f4")]), TypeError, r"params must have dtype float32 or float64.*, got .*"),
    "byte-swapped": Refused(
        np.ones(4, np.dtype("f4").newbyteorder()), TypeError, r"params must have dtype float32.*, got .f4 \(byte-swapped\)"
    ),
    "every other": Refused(
        np.ones(8)[::2], ValueError, r"params must be C-contiguous, got shape \(4,\) with strides \(16,\)"
    ),
    "backwards": Refused(np.ones(8)[::-1], ValueError, r"params must be C-contiguous"),
    "transposed": Refused(np.ones((2, 3)).T, ValueError, r"params must be C-contiguous"),
    "broadcast": Refused(np.broadcast_to(np.ones(3), (2, 3)), ValueError, r"params must be C-contiguous"),
    "read-only": Refused(readonly(np.ones(4)), ValueError, r"params must be writable, got a read-only array"),
    "a NumPy scalar": Refused(np.float32(1), ValueError, r"params must be writable, got a read-only array"),
    "misaligned": Refused(misaligned(4), ValueError, r"params must be aligned to 4 bytes, got address 0x"),
    "foreign and read-only": Refused(Foreign(readonly(np.ones(3))), ValueError, r"params must be writable, got a read-only array"),
    "masked": Refused(np.ma.ones(3), TypeError, r"params must be an array without a mask, got a masked array"),
    "a broken interface": Refused(Broken(), TypeError, r"params must have a valid __array_interface__"),
    "foreign and int": Refused(Foreign(np.arange(3)), TypeError, r"params must have dtype float32.*, got int64"),
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
    "a list": Refused(lambda p: [1.0] * 4, TypeError, r"must be an array .*, got 'list'"),
    "None": Refused(lambda p: None, TypeError, r"must be .*, got 'NoneType'"),
    "another type": Refused(lambda p: np.ones(4), TypeError, r"must have dtype float32 as its parameter.*, got float64"),
    "int": Refused(lambda p: np.ones(4, np.int32), TypeError, r"must have dtype float32 as its parameter.*, got int32"),
    "byte-swapped": Refused(
        lambda p: np.ones(4, np.dtype("f4").newbyteorder()), TypeError, r"must have dtype float32.*, got .f4 \(byte-swapped\)"
    ),
    "too short": Refused(lambda p: np.ones(3, "f"), ValueError, r"must have shape \(4,\) as its parameter, got \(3,\)"),
    "empty": Refused(lambda p: np.ones(0, "f"), ValueError, r"must have shape \(4,\) as its parameter, got \(0,\)"),
    "another shape": Refused(lambda p: np.ones((2, 2), "f"), ValueError, r"must have shape \(4,\) as its parameter, got \(2, 2\)"),
    "no shape": Refused(lambda p: np.ones((), "f"), ValueError, r"must have shape \(4,\) as its parameter, got \(\)"),
    "every other": Refused(lambda p: np.ones(8, "f")[::2], ValueError, r"must be C-contiguous"),
    "broadcast": Refused(lambda p: np.broadcast_to(np.float32(1), 4), ValueError, r"must be C-contiguous"),
    "masked": Refused(lambda p: np.ma.ones(4, "f"), TypeError, r"must be an array without a mask, got a masked array"),
    "misaligned": Refused(lambda p: misaligned(4), ValueError, r"must be aligned to 4 bytes, got address 0x"),
    "the parameter": Refused(lambda p: p, ValueError, r"and params.* overlap in memory"),
    "its last element": Refused(lambda p: p.base[6:10], ValueError, r"and params.* overlap in memory"),
    "its first element": Refused(
        lambda p: p.base[:4], ValueError, r"and params.* overlap in memory"
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
    with pytest.raises(ValueError, match=rf"^grads and {name} overlap in memory"):
        optimizer.step(optimizer.state[name])
    assert snapshot(param, *leaves(optimizer.state)) == before


def test_gradients_may_overlap_unless_they_are_written():
    shared = np.ones(6)
    params = [np.zeros(4), np.zeros(4)]
    fastopt.SGD(params, lr=1.0).step([shared[:4], shared[2:]])
    assert (params[0] == -1).all()
    optimizer = fastopt.SGD(params, lr=1.0, zero_grads=True)
    before = snapshot(*params, shared)
    with pytest.raises(ValueError, match=r"^grads\[0\] and grads\[1\] overlap in memory"):
        optimizer.step([shared[:4], shared[2:]])
    assert snapshot(*params, shared) == before


def test_a_read_only_gradient_is_read_but_not_zeroed():
    param, grad = np.zeros(4), readonly(np.ones(4))
    fastopt.SGD(param, lr=1.0).step(grad)
    before = snapshot(param, grad)
    with pytest.raises(ValueError, match=r"^grads must be writable, got a read-only array"):
        fastopt.SGD(param, lr=1.0, zero_grads=True).step(grad)
    assert snapshot(param, grad) == before


def test_parameters_that_overlap():
    memory = np.ones(10)
    before = snapshot(memory)
    with pytest.raises(ValueError, match=r"^params\['a'\] and params\['b'\] overlap in memory"):
        fastopt.SGD({"a": memory[:6], "b": memory[5:]})
    with pytest.raises(ValueError, match=r"^params\[0\] and params\[1\]\[0\] overlap in memory"):
        fastopt.SGD([{"params": memory}, {"params": [memory]}])
    assert snapshot(memory) == before
    fastopt.SGD({"a": memory[:5], "b": memory[5:]})  # side by side is no overlap


flat = fastopt.Flat({"w": (2, 2), "b": 2})
STRUCTURES = {
    "too few": Refused(
        ([np.ones(2), np.ones(2)], [np.ones(2)]), ValueError, r"grads must have 2 items like the parameters, got 1"
    ),
    "too many": Refused(([np.ones(2)], [np.ones(2)] * 2), ValueError, r"grads must have 1 items like the parameters, got 2"),
    "an array for a list": Refused(
        ([np.ones(2)], np.ones(2)), TypeError, r"grads must be a list or tuple like the parameters, got 'ndarray'"
    ),
    "a list for names": Refused(
        ({"w": np.ones(2)}, [np.ones(2)]), TypeError, r"grads must be a mapping with the names .*, got 'list'"
    ),
    "other names": Refused(
        ({"w": np.ones(2), "b": np.ones(1)}, {"w": np.ones(2), "c": np.ones(1)}),
        ValueError,
        r"grads must have the names \['w', 'b'\], got \['b'\] missing and \['c'\] extra",
    ),
    "a name too many": Refused(
        ({"w": np.ones(2)}, {"w": np.ones(2), "c": np.ones(1)}), ValueError, r"grads must have the names \['w'\], got \[\] missing and \['c'\] extra"
    ),
    "a dict for a Flat": Refused(
        (flat, dict(flat)), TypeError, r"grads must be a Flat with the layout of the parameters .*, got 'dict'"
    ),
    "a buffer for a Flat": Refused((flat, flat.buffer), TypeError, r"grads must be a Flat .*, got 'ndarray'"),
    "another layout": Refused(
        (flat, fastopt.Flat({"b": 2, "w": (2, 2)})), ValueError, r"grads must have the layout \{'w'.*, got \{'b'"
    ),
    "a Flat of another type": Refused(
        (flat, fastopt.Flat({"w": (2, 2), "b": 2}, np.float64)), TypeError, r"grads must have dtype float32.*, got float64"
    ),
    "the Flat itself": Refused((flat, flat), ValueError, r"grads and params overlap in memory"),
    "one for groups": Refused(
        ([{"params": np.ones(2)}, {"params": np.ones(2)}], np.ones(2)),
        TypeError,
        r"grads must be a list with an item for each group, got 'ndarray'",
    ),
    "a group too few": Refused(
        ([{"params": np.ones(2)}, {"params": np.ones(2)}], [np.ones(2)]),
        TypeError,
        r"grads must have 2 items, one for each group, got 1",
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
            TypeError, match=r"^params must be a mapping that keeps its arrays, got 'NpzFile'"
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
    with pytest.raises(RuntimeError, match=r"^the optimizer is already in use"):
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
        r"kernels.adam must have .*, max_exp_avg_sq for these hyperparameters, got param, grad, exp_avg, exp_avg_sq",
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
