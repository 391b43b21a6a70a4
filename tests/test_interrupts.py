"""Ctrl-C waits for the end of a step, and tears neither sums of gradients nor a load."""

from __future__ import annotations

import gc
import itertools
from contextlib import suppress

import numpy as np
import pytest
from interrupts import SOON, interrupts, leaves_files_open

import fastopt


def repeat(call, seconds):
    """Repeat a call until it is interrupted."""
    with suppress(KeyboardInterrupt), interrupts(seconds):
        while True:
            call()


@pytest.mark.parametrize(("size", "count"), [(100, 50), (2_000_000, 20)])
def test_interrupt_is_delivered_after_the_step(size, count):
    """The parameters are minus the number of counted steps."""
    params, grads = np.zeros(size), np.ones(size)
    optimizer = fastopt.SGD(params, lr=1.0, max_grad_norm=1e30)
    rng = np.random.default_rng(0)
    for _ in range(count):
        repeat(lambda: optimizer.step(grads), rng.uniform(1e-5, 5e-3))
        assert params[0] == params[-1] == -optimizer.steps
        assert (params == params[0]).all()


def test_interrupted_step_uses_accumulated_gradients_once_or_not_at_all():
    params, grads = np.zeros(100_000), np.ones(100_000)
    optimizer = fastopt.SGD(params, lr=1.0)
    rng = np.random.default_rng(0)

    def accumulate_and_step():
        optimizer.accumulate(grads)
        optimizer.step()

    for _ in range(100):
        repeat(accumulate_and_step, rng.uniform(1e-5, 1e-3))
        assert params[0] == params[-1] == -optimizer.steps


@pytest.mark.parametrize("options", [{}, {"zero_grads": True}], ids=str)
def test_interrupted_accumulate_adds_all_or_nothing(options):
    """The mean of ones is one in every tensor."""
    params = [np.zeros(3000) for _ in range(40)]
    optimizer = fastopt.SGD(params, lr=1.0, **options)
    rng = np.random.default_rng(0)
    for steps in range(1, 101):
        optimizer.accumulate([np.ones(3000) for _ in params])
        repeat(lambda: optimizer.accumulate([np.ones(3000) for _ in params]), rng.uniform(1e-5, 2e-3))
        optimizer.step()
        assert all((param == -steps).all() for param in params)


def test_interrupted_accumulate_zeroes_only_what_it_counts():
    params = [np.zeros(3000) for _ in range(40)]
    optimizer = fastopt.SGD(params, lr=1.0, zero_grads=True)
    rng = np.random.default_rng(0)
    for _ in range(200):
        grads = [np.ones(3000) for _ in params]
        with suppress(KeyboardInterrupt), interrupts(rng.uniform(1e-5, 3e-4)):
            optimizer.accumulate(grads)
        assert {float(value) for grad in grads for value in (grad[0], grad[-1])} == {
            0.0 if optimizer._plan.parts else 1.0
        }
        if optimizer._plan.parts:
            optimizer.step()


def test_interrupted_early_stopping_keeps_parameters_of_one_epoch():
    params, found = [np.zeros(500) for _ in range(100)], [np.zeros(500) for _ in range(100)]
    early_stopping, rng = fastopt.EarlyStopping(), np.random.default_rng(0)
    for number in range(1, 201):
        for param in params:
            param[:] = number
        with suppress(KeyboardInterrupt), interrupts(rng.uniform(1e-5, 5e-4)):
            early_stopping.update(-number, params)
        if early_stopping.best_epoch is not None:
            early_stopping.restore(found)
            assert {float(array[0]) for array in found} == {-early_stopping.best}


@leaves_files_open
def test_interrupt_is_delivered_after_a_load(tmp_path):
    """Parameters, states and counts are of one file."""
    files = [tmp_path / "0.npz", tmp_path / "1.npz"]
    params = {"w": np.zeros(50_000), "b": np.zeros(3)}
    optimizer, early_stopping = fastopt.Momentum(params, lr=1.0), fastopt.EarlyStopping()
    for file in files:
        optimizer.step({"w": np.ones(50_000), "b": np.ones(3)})
        early_stopping.update(float(params["b"][0]), params)
        fastopt.save(file, params=params, optimizer=optimizer, early_stopping=early_stopping)
    wanted = {1: params_of(files[0]), 2: params_of(files[1])}
    rng, numbers = np.random.default_rng(0), itertools.count()

    def load():
        file = files[next(numbers) % 2]
        fastopt.load(file, params=params, optimizer=optimizer, early_stopping=early_stopping)

    for _ in range(100):
        repeat(load, rng.uniform(1e-5, 3e-3))
        assert early_stopping.epochs == optimizer.steps
        assert params["w"][0] == params["w"][-1] == params["b"][0] == wanted[optimizer.steps]
    gc.collect()  # here, and not in the next test


def params_of(file):
    params = {"w": np.zeros(50_000), "b": np.zeros(3)}
    fastopt.load(file, params=params)
    return params["b"][0]


@leaves_files_open
def test_repeated_interrupts_do_not_tear_a_load(tmp_path):
    params = [np.zeros(300) for _ in range(100)]
    optimizer, rng, file = fastopt.Momentum(params, lr=1.0), np.random.default_rng(0), tmp_path / "run.npz"
    optimizer.step([np.ones(300) for _ in params])
    fastopt.save(file, params=params, optimizer=optimizer)
    for _ in range(30):
        optimizer.step([np.ones(300) for _ in params])
        with suppress(KeyboardInterrupt), interrupts(rng.uniform(0.01, 0.04), SOON):
            fastopt.load(file, params=params, optimizer=optimizer)
        assert {float(param[0]) for param in params} == {-1.0 if optimizer.steps == 1 else -2.9}
        fastopt.load(file, params=params, optimizer=optimizer)
    gc.collect()
