"""Promise: a call that cannot be done raises an error that names the argument, the expectation and the value, and
changes no byte of any argument.

The rows are in ``refusals_*.py``, one file per topic. A row is a call without arguments, the type of the error and its
message, in which ``...`` stands for any text. To test another refusal, add a row; nothing else is needed. Every array,
container and stateful object is compared before and after that is an argument of a ``functools.partial`` or a variable
that a lambda names.
"""

from __future__ import annotations

import inspect
import re
from functools import partial

import numpy as np
import pytest
import refusals_images
import refusals_keyed
import refusals_layers
import refusals_losses
import refusals_options
import refusals_params
import refusals_states
import refusals_training
from cases import Foreign, leaves, read_only

import fastopt
from fastopt import schedules
from fastopt.layers import BatchNormCache
from fastopt.schedules import StatefulSchedule

TOPICS = [
    refusals_params,
    refusals_options,
    refusals_states,
    refusals_keyed,
    refusals_training,
    refusals_losses,
    refusals_layers,
    refusals_images,
]
ROWS = [
    pytest.param(*row, id=f"{topic.__name__.removeprefix('refusals_')}: {row[-1]}")
    for topic in TOPICS
    for row in topic.REFUSALS
]


def watched(call):
    """Return the values that a call could change."""
    if isinstance(call, partial):
        return [*call.args, *call.keywords.values()]
    named = inspect.getclosurevars(call)
    return [*named.globals.values(), *named.nonlocals.values()]


def state_of(value):
    """Return the state of an optimizer or another stateful object, without the arrays of the caller, or None."""
    if isinstance(value, fastopt.Optimizer):
        return [value.grad_scale, *map(dict, value.param_groups)]
    if isinstance(value, fastopt.Keyed):
        return [list(value), *map(state_of, value._all())]
    if isinstance(value, (fastopt.EarlyStopping, fastopt.DynamicLossScale, StatefulSchedule)):
        return value.state_dict()
    return vars(value) if isinstance(value, BatchNormCache) else None


def snapshot(values):
    """Return the bytes of all arrays in some values, the states of objects among them, and the settings of fastopt."""
    states = [state_of(value) for value in values]
    settings = fastopt.isa(), fastopt.num_threads(), fastopt.threading_layer()
    return [array.tobytes() for array in leaves([*values, *states])], repr(states), settings


@pytest.mark.parametrize(("call", "error", "message"), ROWS)
def test_invalid_call_raises_and_changes_nothing(call, error, message):
    values = watched(call)
    before = snapshot(values)
    pattern = ".*".join(map(re.escape, message.split("...")))
    for _ in range(2):  # a refused argument must not count as known the second time
        with pytest.raises(error) as caught:
            call()
        assert type(caught.value) is error
        assert re.fullmatch(pattern, str(caught.value), re.DOTALL), f"{caught.value}\nis not\n{message}"
        assert snapshot(values) == before


# Unusual arguments that are accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, refusals_params.ALL_STAGES], ids=["no options", "all options"])
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


P, X = np.ones(1), np.ones((4, 2), np.float32)
WITH_SCALARS = [  # calls with each kind of argument; scalar(...) makes the scalar of NumPy or the array
    lambda scalar: fastopt.SGD(P, scalar(0.5), scalar(0.75), nesterov=scalar(True), maximize=scalar(False)),
    lambda scalar: fastopt.Momentum(P, form=scalar("ema")),
    lambda scalar: fastopt.Adam(P, scalar(1), betas=[scalar(0.5), scalar(0.75)], amsgrad=scalar(True)),
    lambda scalar: fastopt.SGD(P, nonfinite=scalar("skip")).nonfinite,
    lambda scalar: fastopt.SGD(P, zero_grads=scalar(True)).zero_grads,
    lambda scalar: fastopt.EarlyStopping(scalar(3), min_delta=scalar(0.5), mode=scalar("max")),
    lambda scalar: schedules.Plateau(scalar(1.0), patience=scalar(2), threshold_mode=scalar("abs")),
    lambda scalar: schedules.PiecewiseConstant(scalar(1), [(scalar(3), scalar(0.5))]),
    lambda scalar: list(fastopt.batches(X, batch_size=scalar(2), seed=scalar(5), shuffle=scalar(True))),
    lambda scalar: fastopt.mse(X, X, reduction=scalar("none")),
    lambda scalar: fastopt.dice(X, X, from_logits=scalar("sigmoid"), squared=scalar(True)),
    lambda scalar: fastopt.Flat({"w": (scalar(3), scalar(2))}).layout,
]


@pytest.mark.parametrize("call", WITH_SCALARS)
@pytest.mark.parametrize("scalar", [lambda value: np.asarray(value)[()], np.asarray], ids=["scalars", "arrays"])
def test_numpy_scalars_count_as_the_objects_that_they_hold(call, scalar):
    assert repr(call(scalar)) == repr(call(lambda value: value))


def test_betas_may_be_an_array():
    assert fastopt.Adam(P, betas=np.array([0.5, 0.75])).param_groups[0]["betas"] == (0.5, 0.75)


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
