"""Python threads: a step is never torn, and a second one at the same time raises."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from cases import CASES, same_bits
from processes import HANGS

import fastopt

SIZE = 300_000
IN_USE = "the optimizer is already in use by another thread or a re-entrant call"


def together(*works):
    """Run functions in threads at the same time; re-raise the first exception."""
    errors, begin = [], threading.Barrier(len(works))

    def run(work):
        begin.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def refusals(texts):
    """Collect the messages of calls that raise because another is running."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != IN_USE:
            raise
        texts.append(str(error))
        time.sleep(0.0005)


def test_two_threads_on_one_optimizer_never_tear_a_step():
    """Parameters and states are those after the counted number of steps."""
    params, grads = np.zeros(SIZE), np.ones(SIZE)
    optimizer = fastopt.Adam(params, lr=1e-3, ema_decay=0.9, max_grad_norm=10.0)
    refused, done = [], []

    def work():
        for _ in range(60):
            with refusals(refused):
                optimizer.step(grads)
                done.append(1)

    together(work, work, work)
    assert optimizer.steps == len(done)
    assert len(done) + len(refused) == 180
    alone = np.zeros(SIZE)
    other = fastopt.Adam(alone, lr=1e-3, ema_decay=0.9, max_grad_norm=10.0)
    for _ in done:
        other.step(grads)
    assert same_bits(params, alone)
    for name, state in other.state.items():
        assert same_bits(optimizer.state[name], state)


def test_state_dict_is_of_one_step_or_raises():
    """All elements of the state are equal; a torn copy would have two values."""
    optimizer = fastopt.Momentum(np.zeros(SIZE), lr=1.0)
    going, taken = True, []

    def step():
        nonlocal going
        for _ in range(300):
            with suppress(RuntimeError):
                optimizer.step(np.ones(SIZE))
        going = False

    def read():
        while going:
            with suppress(RuntimeError):
                saved = optimizer.state_dict()
                taken.append((saved["steps"], np.unique(saved["param_groups"][0]["state"]["momentum_buffer"])))

    together(step, read)
    assert all(len(values) == 1 for _, values in taken)
    alone = fastopt.Momentum(np.zeros(1), lr=1.0)
    buffers = [0.0]
    for _ in range(300):
        alone.step(np.ones(1))
        buffers.append(float(alone.state["momentum_buffer"][0]))
    assert all(buffers[steps] == values[0] for steps, values in taken)


def test_two_threads_never_tear_accumulated_gradients():
    """All elements of the mean are equal, and it includes every gradient whose call did not raise."""
    params, refused, added = np.zeros(SIZE), [], []
    optimizer = fastopt.SGD(params, lr=1.0)

    def work(value):
        for _ in range(60):
            with refusals(refused):
                optimizer.accumulate(np.full(SIZE, value))
                added.append(value)

    together(lambda: work(1.0), lambda: work(2.0), lambda: work(4.0))
    optimizer.step()
    assert len(added) + len(refused) == 180
    assert (params == params[0]).all()
    assert params[0] == pytest.approx(-sum(added) / len(added), rel=1e-12)


def test_accumulate_during_a_step_is_refused():
    """The step, which has begun with one part, is not changed by another one."""
    params, begun, tried, refused = np.zeros(3), threading.Event(), threading.Event(), []

    def rate(step):
        begun.set()
        assert tried.wait(HANGS)
        return 1.0

    optimizer = fastopt.SGD(params, lr=rate)
    optimizer.accumulate(np.ones(3))

    def add():
        assert begun.wait(HANGS)
        with refusals(refused):
            optimizer.accumulate(np.full(3, 5.0))
        tried.set()

    together(optimizer.step, add)
    assert refused == [IN_USE]
    assert (params.tolist(), optimizer.steps) == ([-1.0] * 3, 1)


class Calling:
    """An array that calls a function when its interface is read."""

    def __init__(self, array, call):
        self.array, self.call = array, call

    @property
    def __array_interface__(self):
        self.call()
        return self.array.__array_interface__


def test_reentrant_calls_are_refused():
    params = [np.zeros(4) for _ in range(8)]
    grads = [np.ones(4) for _ in params]
    optimizer, refused = fastopt.SGD(params, lr=1.0), []
    saved = optimizer.state_dict()

    def set_grad_scale():
        optimizer.grad_scale = 100.0

    def call():
        calls = [
            lambda: optimizer.accumulate(grads),
            lambda: optimizer.step(grads),
            set_grad_scale,
            optimizer.state_dict,
        ]
        for again in [*calls, lambda: optimizer.load_state_dict(saved)]:
            before = len(refused)
            with refusals(refused):
                again()
            assert len(refused) == before + 1

    optimizer.accumulate([*grads[:7], Calling(np.ones(4), call)])
    assert len(refused) >= 5
    optimizer.step()
    optimizer.step([*grads[:7], Calling(np.ones(4), call)])
    assert all(param.tolist() == [-2.0] * 4 for param in params)
    assert (optimizer.steps, optimizer.grad_scale) == (2, 1.0)


def test_hyperparameter_set_by_a_reentrant_call_holds_from_the_next_step():
    param = np.zeros(4)
    optimizer = fastopt.SGD(param, lr=1.0)
    optimizer.step(np.ones(4))
    optimizer.step(Calling(np.ones(4), lambda: setattr(optimizer, "lr", 8.0)))
    assert param[0] in (-2.0, -9.0)  # one rate for all elements, whichever
    assert (param == param[0]).all()
    before = param[0]
    optimizer.step(np.ones(4))
    assert (param == before - 8.0).all()


def raising(step):
    raise LookupError("no rate")


class RaisingKey:
    """A name of a parameter that cannot be printed."""

    def __repr__(self):
        if armed:
            raise LookupError("no name")
        return "key"


armed = False


def test_lock_and_gradients_are_released_after_errors():
    """After any error the optimizer can step, and the memory of the refused gradient can be resized."""
    global armed  # noqa: PLW0603
    param = np.zeros(4)
    optimizer = fastopt.SGD([{"params": {RaisingKey(): param}}], lr=1.0, nonfinite="raise")
    memory = bytearray(32)
    grads = {
        key: memoryview(memory).cast("d") for key in optimizer.param_groups[0].state or optimizer._tree.children[0].keys
    }
    optimizer.lr = raising
    with pytest.raises(LookupError, match="no rate"):
        optimizer.step([grads])
    optimizer.lr = 1e-3
    np.frombuffer(memory)[1] = np.nan
    armed = True
    with pytest.raises(LookupError, match="no name"):
        optimizer.step([grads])
    armed = False
    with pytest.raises(FloatingPointError, match=r"must be finite, got nan at index \(1,\)"):
        optimizer.step([grads])
    with pytest.raises((TypeError, ValueError)):
        optimizer.accumulate([dict.fromkeys(grads, memory)])
    gc.collect()
    grads.clear()
    memory.extend(b"released")
    assert (param == 0).all()


def test_constructor_that_raises_releases_its_buffers():
    memory = bytearray(32)
    for bad in (np.ones(3, int), np.frombuffer(memory), None):
        with pytest.raises((TypeError, ValueError)):
            fastopt.Adam([memoryview(memory).cast("d"), bad], ema_decay=0.5)
    del bad
    gc.collect()
    memory.extend(b"released")


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.5, "max_grad_norm": 1.0, "nonfinite": "raise"}], ids=str)
def test_optimizer_is_freed_when_its_last_reference_goes(options):
    """Without the garbage collector, because there is no reference cycle; its states may be as large as memory."""
    param = np.zeros(10)
    references = sys.getrefcount(param)
    gc.disable()
    try:
        optimizer = fastopt.Adam({"w": param}, lr=lambda step: 0.1, **options)
        optimizer.step({"w": np.ones(10)})
        optimizer.accumulate({"w": np.ones(10)})
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        with suppress(ValueError):
            optimizer.step({"w": np.ones(3)})
        freed = [
            weakref.ref(optimizer),
            weakref.ref(optimizer.state["exp_avg"]["w"]),
            weakref.ref(optimizer.param_groups[0]),
        ]
        del optimizer
        assert [reference() for reference in freed] == [None] * 3
        assert sys.getrefcount(param) == references
    finally:
        gc.enable()


def test_load_beside_a_stepping_thread_is_complete_or_raises(tmp_path):
    """Parameters, state and count are of the same step."""
    params = np.zeros(SIZE)
    optimizer = fastopt.Momentum(params, lr=1.0, momentum=0.5)
    fastopt.save(tmp_path / "run.npz", params=params, optimizer=optimizer)
    refused, going = [], True

    def step():
        while going:
            with refusals(refused):
                optimizer.step(np.ones(SIZE))

    def load():
        nonlocal going
        for _ in range(30):
            with refusals(refused):
                fastopt.load(tmp_path / "run.npz", params=params, optimizer=optimizer)
        going = False

    together(step, load)
    alone = np.zeros(1)
    other = fastopt.Momentum(alone, lr=1.0, momentum=0.5)
    for _ in range(optimizer.steps):
        other.step(np.ones(1))
    assert (params == alone[0]).all()
    assert (optimizer.state["momentum_buffer"] == other.state["momentum_buffer"][0]).all()


def test_save_beside_a_stepping_thread_is_of_one_step(tmp_path):
    file, params, refused, going = tmp_path / "run.npz", np.zeros(SIZE), [], True
    optimizer = fastopt.Momentum(params, lr=1.0, momentum=0.5)
    fastopt.save(file, params=params, optimizer=optimizer)

    def step():
        while going:
            with refusals(refused):
                optimizer.step(np.ones(SIZE))

    def save():
        nonlocal going
        for _ in range(20):
            with refusals(refused):
                fastopt.save(file, params=params, optimizer=optimizer)
            found = np.zeros(SIZE)
            fastopt.load(file, params=found)
            assert (found == found[0]).all()
        going = False

    together(step, save)


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_optimizers_in_several_threads_have_the_bits_of_one(case):
    start, grads = np.linspace(-1, 1, 50_000), np.sin(np.arange(50_000.0))
    params = [start.copy() for _ in range(4)]

    def train(param):
        optimizer = case.make(param)
        for _ in range(10):
            optimizer.step(grads.copy())

    together(*(lambda param=param: train(param) for param in params[:3]))
    train(params[3])
    assert all(same_bits(param, params[3]) for param in params)
