"""Python threads and signals: one optimizer is in one step, or an error says so, and Ctrl-C comes behind a step."""

from __future__ import annotations

import gc
import signal
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from cases import CASES, same_bits

import fastopt

SIZE = 300_000


def together(*works):
    """Run functions in threads at once, and raise what one of them raised."""
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
    """Collect what was said of a step that is not the only one, and wait a little."""
    try:
        yield
    except RuntimeError as error:
        texts.append(str(error))
        time.sleep(0.0005)


def test_two_threads_on_one_optimizer_never_tear_a_step():
    """The parameters and all states are those of as many steps as were counted."""
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
    assert {text[:33] for text in refused} <= {"this optimizer is in use already:"}
    alone = np.zeros(SIZE)
    other = fastopt.Adam(alone, lr=1e-3, ema_decay=0.9, max_grad_norm=10.0)
    for _ in done:
        other.step(grads)
    assert same_bits(params, alone)
    for name, state in other.state.items():
        assert same_bits(optimizer.state[name], state)


def test_a_state_is_of_one_step_or_refused():
    """Every element of the states is the same, as all parameters are; a torn copy would have two values."""
    optimizer = fastopt.Momentum(np.zeros(SIZE), lr=1.0)
    going, taken = True, []

    def step():
        nonlocal going
        for _ in range(300):
            with suppress(RuntimeError):
                optimizer.step(np.ones(SIZE))
        going = False

    def look():
        while going:
            with suppress(RuntimeError):
                saved = optimizer.state_dict()
                taken.append((saved["steps"], np.unique(saved["param_groups"][0]["state"]["momentum_buffer"])))

    together(step, look)
    assert all(len(values) == 1 for _, values in taken)
    alone = fastopt.Momentum(np.zeros(1), lr=1.0)
    buffers = [0.0]
    for _ in range(300):
        alone.step(np.ones(1))
        buffers.append(float(alone.state["momentum_buffer"][0]))
    assert all(buffers[steps] == values[0] for steps, values in taken)


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_several_optimizers_at_once_have_their_own_bits(case):
    start, grads = np.linspace(-1, 1, 50_000), np.sin(np.arange(50_000.0))
    params = [start.copy() for _ in range(4)]

    def train(param):
        optimizer = case.make(param)
        for _ in range(10):
            optimizer.step(grads.copy())

    together(*(lambda param=param: train(param) for param in params[:3]))
    train(params[3])
    assert all(same_bits(param, params[3]) for param in params)


# Ctrl-C


@contextmanager
def interrupts(seconds):
    """Send a signal that raises KeyboardInterrupt, as Ctrl-C does, after some time.

    Python loses it where it comes within a ``__del__``: what waits for it must end by itself.
    """
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def for_a_while(seconds=0.1):
    """Count up as long as that."""
    end, i = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield i
        i += 1


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_an_interrupt_comes_behind_the_step(size):
    """What is counted has been done: parameters are minus the number of steps, and the average is as far."""
    params, grads = np.zeros(size), np.ones(size)
    optimizer = fastopt.SGD(params, lr=1.0, max_grad_norm=1e30)
    rng, caught = np.random.default_rng(0), 0
    for _ in range(100):
        try:
            with interrupts(rng.uniform(1e-5, 5e-3)):
                for _ in for_a_while():
                    optimizer.step(grads)
        except KeyboardInterrupt:
            caught += 1
        assert params[0] == params[-1] == -optimizer.steps
        assert (params == params[0]).all()
    assert caught > 80


def test_an_interrupt_takes_accumulated_parts_once_or_not_at_all():
    params, grads = np.zeros(100_000), np.ones(100_000)
    optimizer = fastopt.SGD(params, lr=1.0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        with suppress(KeyboardInterrupt), interrupts(rng.uniform(1e-5, 1e-3)):
            for _ in for_a_while():
                optimizer.accumulate(grads)
                optimizer.step()
        assert params[0] == params[-1] == -optimizer.steps


@pytest.mark.parametrize("options", [{}, {"zero_grads": True}], ids=str)
def test_an_interrupted_part_is_added_whole_or_not_at_all(options):
    """The mean of ones is one in every tensor, however often adding them was interrupted."""
    params = [np.zeros(3000) for _ in range(40)]
    optimizer = fastopt.SGD(params, lr=1.0, **options)
    rng = np.random.default_rng(0)
    for steps in range(1, 201):
        optimizer.accumulate([np.ones(3000) for _ in params])
        with suppress(KeyboardInterrupt), interrupts(rng.uniform(1e-5, 2e-3)):
            for _ in for_a_while():
                optimizer.accumulate([np.ones(3000) for _ in params])
        optimizer.step()
        assert all((param == -steps).all() for param in params)


# what is interrupted while it opens a file leaves that to the garbage collection, which says so
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_interrupt_comes_behind_a_load(tmp_path):
    """All of it is loaded or nothing: parameters, states, and counts are of one run."""
    files = [tmp_path / "0.npz", tmp_path / "1.npz"]
    params = {"w": np.zeros(50_000), "b": np.zeros(3)}
    optimizer, stopper = fastopt.Momentum(params, lr=1.0), fastopt.EarlyStopping()
    for file in files:
        optimizer.step({"w": np.ones(50_000), "b": np.ones(3)})
        stopper.update(float(params["b"][0]), params)
        fastopt.save(file, params=params, optimizer=optimizer, stopper=stopper)
    wanted = {1: params_of(files[0]), 2: params_of(files[1])}
    rng, caught = np.random.default_rng(0), 0
    for _ in range(100):
        try:
            with interrupts(rng.uniform(1e-5, 3e-3)):
                for i in for_a_while():
                    fastopt.load(files[i % 2], params=params, optimizer=optimizer, stopper=stopper)
        except KeyboardInterrupt:
            caught += 1
        assert stopper.epochs == optimizer.steps
        assert params["w"][0] == params["w"][-1] == params["b"][0] == wanted[optimizer.steps]
    gc.collect()  # here, and not in the next test
    assert caught > 80


def params_of(file):
    params = {"w": np.zeros(50_000), "b": np.zeros(3)}
    fastopt.load(file, params=params)
    return params["b"][0]
