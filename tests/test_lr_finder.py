"""The learning rate range test: what it restores, where it ends, what it suggests."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
from cases import CASES, same_bits, start_values

import fastopt
from fastopt import schedules
from fastopt.lr_finder import LRFinderResult, find_lr
from fastopt.schedules._base import stateful_schedules


class StopError(Exception):
    """An error that a step raises."""


class Problem:
    """A quadratic problem with different curvatures; gradients have the form of the parameters."""

    def __init__(self, params, make):
        self.params = params
        self.arrays = list(params.values())
        self.slopes = [np.linspace(0.01, 1, a.size, dtype=a.dtype).reshape(a.shape) for a in self.arrays]
        self.optimizer = make(params)
        self.averages = np.zeros(3)
        self.rates = []

    def step(self, i):
        """Do a step, and return the loss before it."""
        assert i == len(self.rates)
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])
        with np.errstate(all="ignore"):
            loss = sum(float((s * a * a).sum(dtype=np.float64)) for s, a in zip(self.slopes, self.arrays, strict=True))
            grads = {name: s * a for name, s, a in zip(self.params, self.slopes, self.arrays, strict=True)}
        self.optimizer.step(grads)
        self.averages += 1
        return loss

    def everything(self):
        """Return everything that must be restored."""
        optimizer = self.optimizer
        return copy.deepcopy(
            {
                "params": [array.copy() for array in self.arrays],
                "state": optimizer.state_dict(),
                "ema": None if optimizer.ema is None else {name: a.copy() for name, a in optimizer.ema.items()},
                "grad_norm": optimizer.grad_norm,
                "lr": optimizer.lr,
                "averages": self.averages.copy(),
            }
        )


def start(make):
    """Return a problem after five steps."""
    values = start_values(12, np.float32)
    problem = Problem({"w": values[:8].reshape(4, 2).copy(), "b": values[8:].copy()}, make)
    for i in range(5):
        problem.step(i)
    problem.rates.clear()
    return problem


MAKERS = {
    **{str(case): case.make for case in CASES},
    "momentum": lambda p: fastopt.SGD(p, lr=0.1, momentum=0.9),
    "ema": lambda p: fastopt.Adam(p, ema_decay=0.9, max_grad_norm=1.0),
    "schedules": lambda p: fastopt.AdamW(
        p, lr=schedules.Warmup(schedules.Cosine(0.1, 50), 10), weight_decay=schedules.Linear(0.1, 0.0, 20)
    ),
    "stateful schedule": lambda p: fastopt.SGD(
        p, lr=schedules.Warmup(schedules.Plateau(0.1, patience=1), 3), momentum=0.9
    ),
    "ema and a function of the step": lambda p: fastopt.Adam(
        p, lr=lambda step: 0.1 / (step + 1), ema_decay=0.5, betas=(0.8, 0.9)
    ),
}


@pytest.mark.parametrize("error", [None, StopError, KeyboardInterrupt])
@pytest.mark.parametrize("maker", MAKERS)
def test_everything_is_restored_and_later_steps_are_identical(maker, error):
    problem, twin = start(MAKERS[maker]), start(MAKERS[maker])
    before = problem.everything()
    hyper = [dict(group) for group in problem.optimizer.param_groups]

    def step(i):
        if error and i == 20:
            raise error
        for schedule in stateful_schedules(problem.optimizer.param_groups[0]["lr"]):
            schedule.update(1.0)
        if i == 3:
            problem.optimizer.grad_scale = 2.0
        return problem.step(i)

    if error:
        with pytest.raises(error):
            find_lr(step, problem.optimizer, start=1e-6, end=1e-3, restore=problem.averages)
    else:
        try:
            find_lr(step, problem.optimizer, restore=problem.averages)
        except FloatingPointError as raised:
            assert "nonfinite='raise'" in str(raised)  # noqa: PT017  the option of that case
    np.testing.assert_equal(problem.everything(), before)
    assert [dict(group) for group in problem.optimizer.param_groups] == hyper
    problem.rates.clear()
    twin.rates.clear()
    for i in range(5):
        assert problem.step(i) == twin.step(i)
    np.testing.assert_equal(problem.everything(), twin.everything())
    for mine, other in zip(problem.arrays, twin.arrays, strict=True):
        assert same_bits(mine, other)


def test_state_of_schedules_is_restored():
    rate, decay = schedules.Plateau(0.1, patience=0), schedules.Plateau(0.5, patience=0)
    w = np.ones(2)
    optimizer = fastopt.SGD(w, lr=rate, weight_decay=decay)

    def step(i):
        rate.update(float(i))
        decay.update(float(i))
        optimizer.step(w.copy())
        return 1.0

    find_lr(step, optimizer, steps=5)
    assert (optimizer.lr, rate.bad_epochs, rate.best, decay.value, decay.best) == (0.1, 0, math.inf, 0.5, math.inf)
    assert optimizer.param_groups[0]["lr"] is rate


def test_all_forms_of_parameters_and_groups():
    def check(params, arrays, grads):
        optimizer = fastopt.Adam(params)
        before = [array.copy() for array in arrays]
        find_lr(lambda i: optimizer.step(grads) or 1.0, optimizer, steps=4)
        assert all(same_bits(array, old) for array, old in zip(arrays, before, strict=True))
        assert optimizer.steps == 0

    flat = fastopt.Flat({"w": np.ones(3), "b": np.ones(2)})
    check(flat, [flat.buffer], flat.copy())
    one, two = np.ones(3), np.ones(2, np.float32)
    check(one, [one], np.ones(3))
    check((one, two), [one, two], [np.ones(3), np.ones(2, np.float32)])
    groups = [{"params": [one], "lr": 0.5}, {"params": two, "lr": lambda step: 0.25}]
    check(groups, [one, two], [[np.ones(3)], np.ones(2, np.float32)])


def test_rates_grow_geometrically_in_all_groups():
    rates = []
    w, v = np.ones(1), np.ones(1)
    optimizer = fastopt.SGD([{"params": w, "lr": 0.5}, {"params": v, "lr": 0.25}])

    def step(i):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return 1.0

    found = find_lr(step, optimizer, start=1e-3, end=10.0, steps=5)
    assert rates == [[rate] * 2 for rate in found.rates.tolist()]
    np.testing.assert_allclose(found.rates, [1e-3, 1e-2, 1e-1, 1, 10], rtol=1e-14)
    assert (found.rates[0], found.rates[-1]) == (1e-3, 10.0)
    assert found.losses.tolist() == [1.0] * 5
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]


def replay(losses, **options):
    """Run a range test with given losses."""
    optimizer = fastopt.SGD(np.zeros(1))
    return find_lr(lambda i: losses[i], optimizer, steps=len(losses), **options)


@pytest.mark.parametrize(
    ("losses", "done"),
    [
        ([1.0] * 50, 50),
        ([1.0] * 9 + [math.nan] + [1.0] * 10, 10),
        ([1.0] * 9 + [math.inf] + [1.0] * 10, 10),
        ([1.0] * 9 + [-math.inf] + [1.0] * 10, 10),
        ([math.nan, 1.0], 1),
        ([1.0] * 10 + [100.0] * 10, 11),  # smoothed over one step: 63.6
        ([1.0] * 10 + [3.9] * 10, 20),
        ([-1.0] * 20, 20),  # 4 times a negative loss is lower still
        ([-1.0] * 10 + [1.9] * 10, 20),
        ([-1.0] * 10 + [9.0] * 10, 11),
        (list(np.linspace(1, -1, 20)), 20),
    ],
    ids=lambda x: str(x)[:40],
)
def test_ends_when_the_loss_diverges(losses, done):
    found = replay(losses)
    assert len(found.rates) == len(found.losses) == done
    np.testing.assert_equal(found.losses, losses[:done])


@pytest.mark.parametrize("steps", [30, 100, 300])
def test_noisy_losses_around_zero_do_not_diverge_until_they_do(steps):
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(0, 0.2, steps)
        for start, end in [(1.0, -1.0), (0.1, -1.0), (0.0, -0.3), (0.0, 0.0)]:
            losses = np.linspace(start, end, steps) + noise
            assert len(replay(list(losses)).losses) == steps
            rising = [*losses, *np.geomspace(1, 1e6, steps)]
            assert steps < len(replay(rising).losses) < 2 * steps


@pytest.mark.parametrize("factor", [2.0**-1000, 2.0**1000, 2.0**1023])
@pytest.mark.parametrize(
    ("losses", "done"), [([1.5] * 20 + [-0.7] * 40 + [1.9] * 20, 67), ([1.9] * 5 + [-1.9] * 5, 10)], ids=["up", "down"]
)
def test_huge_and_tiny_losses_do_not_overflow(losses, done, factor):
    wanted, found = replay(losses), replay([factor * loss for loss in losses])
    assert len(wanted.losses) == len(found.losses) == done
    assert wanted.suggestion == found.suggestion is not None


@pytest.mark.parametrize("error", [None, StopError])
def test_gradients_accumulated_in_the_test_are_discarded(error):
    w = np.ones(3)
    optimizer = fastopt.Adam(w)
    optimizer.accumulate(np.ones(3))
    with pytest.raises(RuntimeError, match="must be called after accumulate"):
        find_lr(lambda i: 1.0, optimizer)
    optimizer.step()
    before = w.copy()

    def step(i):
        optimizer.accumulate(w.copy())
        if i == 3 and error:
            raise error
        if i < 4:
            optimizer.step()
        return 1.0

    with pytest.raises(error) if error else nullcontext():
        find_lr(step, optimizer, steps=5)
    assert same_bits(w, before)
    assert optimizer.steps == 1
    with pytest.raises(TypeError, match="if none were accumulated"):
        optimizer.step()


def test_single_outlier_does_not_end_the_test():
    losses = [1.0] * 100
    losses[50] = 12.0
    assert len(replay(losses).losses) == 100


def test_suggestion_is_where_the_loss_falls_fastest():
    middle = 60
    losses = 1 / (1 + np.exp((np.arange(101) - middle) / 4.0))
    found = replay(list(losses) + [50.0] * 3)
    assert abs(int(np.flatnonzero(found.rates == found.suggestion)[0]) - middle) <= 1
    noisy = losses + np.random.default_rng(0).normal(0, 0.05, 101)
    found = replay(list(noisy) + [50.0] * 3)
    assert abs(int(np.flatnonzero(found.rates == found.suggestion)[0]) - middle) <= 6


@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 10,
        [1.0, 2.0, 3.0],
        [2.0, 1.0],
        [math.nan] * 3,
        [2.0, 1.0, math.inf],
    ],
    ids=str,
)
def test_no_suggestion_if_the_loss_does_not_fall(losses):
    assert replay(losses).suggestion is None


@pytest.mark.parametrize("steps", [30, 100, 300])
@pytest.mark.parametrize("curvature", [0.01, 1.0, 100.0])
def test_suggestion_on_a_quadratic(curvature, steps):
    """Gradient descent diverges above 2 / curvature, and hardly moves at a thousandth of it."""
    w = np.ones(20)
    slopes = curvature * np.linspace(0.1, 1, 20)
    optimizer = fastopt.SGD(w, lr=0.1)

    def step(i):
        loss = 0.5 * float((slopes * w * w).sum())
        optimizer.step(slopes * w)
        return loss

    found = find_lr(step, optimizer, start=1e-6 / curvature, end=100 / curvature, steps=steps)
    assert found.rates[-1] < 100 / curvature  # it diverged
    assert 2e-3 / curvature < found.suggestion < 2 / curvature
    assert type(found.suggestion) is float


@pytest.mark.parametrize("name", ["SGD", "Momentum", "RMSprop", "Adagrad", "Adam", "AdamW"])
def test_suggestion_on_the_digits(name):
    """The suggestion is within a factor of ten of the rates that the example compares."""
    from fastopt.examples import common, digits  # noqa: PLC0415

    (images, labels), _ = digits.split(0)
    network = common.Network((64, digits.HIDDEN, 10), seed=0)
    optimizer = getattr(fastopt, name)(network.params)

    def step(i):
        rows = np.arange(32 * i, 32 * i + 32) % len(images)
        with np.errstate(all="ignore"):
            loss = network.loss_and_gradients(fastopt.cross_entropy, images[rows], labels[rows])
        optimizer.step(network.grads)
        return loss

    found = find_lr(step, optimizer)
    low, _, high = digits.RATES[name]
    assert low / 10 < found.suggestion < high * 10


def test_plot():
    pytest.importorskip("matplotlib")
    with_one = replay([3.0, 2.9, 2.0, 1.0, 0.9, 1.0, 1e30])
    for found in (with_one, replay([1.0, 2.0]), replay([math.nan] * 2)):
        figure = found.plot()
        (axes,) = figure.axes
        figure.canvas.draw()
        assert axes.get_xscale() == "log"
        np.testing.assert_equal(axes.lines[0].get_xdata(), found.rates)
        np.testing.assert_equal(axes.lines[0].get_ydata(), found.losses)
        assert len(axes.lines) == 1 + (found.suggestion is not None)
    axes = with_one.plot().axes[0]
    assert axes.lines[1].get_xdata()[0] == with_one.suggestion
    assert axes.get_ylim()[1] < 10


def test_result_is_immutable():
    with pytest.raises(AttributeError):
        LRFinderResult(np.ones(1), np.ones(1), None).suggestion = 3.0
