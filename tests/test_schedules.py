"""Schedules: values, state, and use in optimizers."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
from cases import same_bits

import fastopt
from fastopt import reference
from fastopt import schedules as s
from fastopt.optimizers._param_groups import hyperparameter_at

STEPS = 1000
T = np.arange(STEPS)

EXAMPLES = [
    s.Constant(0.1),
    s.Exponential(0.1, 0.99),
    s.Exponential(0.1, 0.5, transition_steps=100),
    s.StepDecay(0.1, step_size=300, decay_rate=0.3),
    s.PiecewiseConstant(0.1, {100: 0.5, 700: 0.1}),
    s.InverseTimeDecay(0.1, 0.01),
    s.Polynomial(0.1, 0.01, power=1.7, transition_steps=800),
    s.Linear(0.1, 0.02, 600),
    s.Cosine(0.1, 900, end_value=0.01),
    s.CosineRestarts(0.1, 50, multiplier=2, end_value=0.001),
    s.CosineRestarts(0.1, 70),
    s.OneCycle(800, 0.5),
    s.Cyclic(0.01, 0.1, 30, 50),
    s.WarmupStableDecay(0.1, 100, 300, 500, 0.001),
    s.Warmup(s.Cosine(0.1, 800), 100, start=0.01),
    s.Join([s.Linear(0.0, 0.1, 100), s.Constant(0.1), s.Exponential(0.1, 0.9)], [100, 500]),
]


REDUCED = [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
INF = math.inf


@pytest.mark.parametrize(
    ("options", "metrics", "best"),
    [
        ({"threshold": 0.5}, [-10.0, -14.0, -15.0, -15.5, -20.0], [-10.0, -10.0, -10.0, -15.5, -15.5]),
        ({"threshold": 0.5, "mode": "max"}, [-10.0, -6.0, -3.1, -1.6], [-10.0, -10.0, -3.1, -3.1]),
        ({"threshold": 0.5, "mode": "max"}, [0.0, 0.0, 0.1, 0.15, 0.2], [0.0, 0.0, 0.1, 0.1, 0.2]),
        ({"threshold": 2.0}, [5.0, -4.0, -6.0, -17.0, -19.0], [5.0, 5.0, -6.0, -6.0, -19.0]),
        ({"threshold": 1.0}, [INF, math.nan, 3.0, 0.0, -1.0, -INF, -INF], [INF, INF, 3.0, 3.0, -1.0, -INF, -INF]),
        ({"threshold": 2.0, "mode": "max"}, [-INF, -4.0, 5.0, INF, 9.0], [-INF, -4.0, 5.0, INF, INF]),
    ],
    ids=str,
)
def test_plateau_margin_has_the_right_direction_for_every_metric(options, metrics, best):
    plateau = s.Plateau(1.0, **options)
    assert [plateau.update(metric) or plateau.best for metric in metrics] == best


@pytest.mark.parametrize(
    ("mode", "metric"), [*itertools.product(["min", "max"], [1.0, 0.0, -1.0]), ("min", -INF), ("max", INF)]
)
def test_constant_metric_is_a_plateau(mode, metric):
    plateau = s.Plateau(1.0, factor=0.1, patience=1, mode=mode)
    values = [plateau.update(metric) or plateau.value for _ in REDUCED]
    np.testing.assert_allclose(values, REDUCED)


def test_plateau_never_increases_its_value():
    plateau = s.Plateau(0.1, patience=0, min_value=0.5)
    for _ in range(3):
        plateau.update(1.0)
    assert plateau(0) == 0.1


def test_end_values_are_exact():
    rng = np.random.default_rng(0)
    for start, end in rng.normal(0, 1, (100, 2)).tolist():
        for schedule in (s.Cosine(start, 10, end), s.Linear(start, end, 10)):
            assert (schedule(0), schedule(10)) == (start, end)


@pytest.mark.parametrize(
    ("init_value", "decay_rate", "step", "value"),
    [
        (0.0, 2.0, 2000, 0.0),
        (2.0**-1000, 2.0, 2000, 2.0**1000),
        (-(2.0**-1074), 2.0, 2097, -(2.0**1023)),
        (2.0**1000, 0.5, 2000, 2.0**-1000),
        (1.5 * 2.0**1023, 0.25, 1048, 1.5 * 2.0**-1073),
        (1.0, 0.5, 1074, 2.0**-1074),
        (1.0, 0.5, 2**53, 0.0),
        (-1.0, 2.0, 1024, -INF),
        (1e-300, 1e300, 10**9, INF),
    ],
)
def test_exponential_is_exact_if_only_the_power_is_out_of_range(init_value, decay_rate, step, value):
    assert s.Exponential(init_value, decay_rate)(step) == s.StepDecay(init_value, 1, decay_rate)(step) == value


def test_piecewise_constant_without_boundaries_is_constant():
    assert s.PiecewiseConstant(0.1, {})(5) == s.PiecewiseConstant(0.1, [])(5) == 0.1


def test_state_inside_a_user_defined_schedule_is_saved():
    class Doubled(s.Schedule):
        def __init__(self, inner):
            self.inner = inner

        def at(self, step):
            return 2 * self.inner(step)

    optimizer = fastopt.SGD(np.zeros(2), lr=Doubled(s.Plateau(0.5, patience=0)))
    optimizer.step(np.ones(2))
    state = optimizer.state_dict()
    optimizer.param_groups[0]["lr"].inner.update(math.inf)
    assert optimizer.lr == 0.1
    optimizer.load_state_dict(state)
    assert optimizer.lr == 1.0


class Budget(s.StatefulSchedule):
    """A stateful schedule around another one, as a user may write it."""

    state_checks = {"left": lambda name, value: int(value)}  # noqa: RUF012

    def __init__(self, inner, left):
        self.inner = inner
        self.left = left

    def at(self, step):
        return self.inner(step) if self.left else 0.0


class NamedPlateau(s.Plateau):
    """A plateau with more state."""

    state_checks = {**s.Plateau.state_checks, "reductions": lambda name, value: int(value)}  # noqa: RUF012
    reductions = 0

    def update(self, metric):
        before = self.value
        super().update(metric)
        self.reductions += self.value < before


def test_state_of_user_defined_schedules_is_saved():
    def make():
        return fastopt.SGD(np.zeros(2), lr=s.Warmup(Budget(NamedPlateau(0.5, patience=0), left=3), 2))

    optimizer, other = make(), make()
    rate = optimizer.param_groups[0]["lr"].schedule
    rate.inner.update(math.inf)
    rate.left = 0
    state = optimizer.state_dict()
    assert state["param_groups"][0]["lr"] == [
        {"left": 0},
        {"value": 0.05, "best": math.inf, "bad_epochs": 0, "cooldown_left": 0, "reductions": 1},
    ]
    other.load_state_dict(state)
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    state["param_groups"][0]["lr"][1]["reductions"] = "many"
    before = other.state_dict()
    with pytest.raises(ValueError, match="many"):
        other.load_state_dict(state)
    assert other.state_dict()["param_groups"][0]["lr"] == before["param_groups"][0]["lr"]


@pytest.mark.parametrize("schedule", EXAMPLES, ids=str)
def test_schedules_are_immutable_values(schedule):
    assert schedule == copy.deepcopy(schedule) == pickle.loads(pickle.dumps(schedule)) == eval(repr(schedule), vars(s))
    assert hash(schedule) == hash(copy.deepcopy(schedule))
    assert len({str(other) for other in EXAMPLES if other != schedule}) == len(EXAMPLES) - 1
    values = schedule(T)
    assert values.dtype == np.float64
    assert values.tolist() == [schedule(int(t)) for t in T] == [schedule(t) for t in T]
    assert type(schedule(np.int32(3))) is type(schedule(np.array(3))) is float
    assert schedule(T.reshape(10, 100)).tolist() == values.reshape(10, 100).tolist()
    assert schedule([]).shape == (0,)
    assert np.isfinite(schedule(np.array([10**6, 2**53]))).all()
    for name in vars(schedule):
        with pytest.raises(AttributeError, match=f"{name} is read-only"):
            setattr(schedule, name, 1.0)
        with pytest.raises(AttributeError, match=f"{name} is read-only"):
            delattr(schedule, name)


def test_pickles_name_the_public_module():
    for name in set(s.__all__) - {"plot_schedule"}:
        assert f"cfastopt.schedules\n{name}\n".encode() in pickle.dumps(getattr(s, name), protocol=0)


def test_schedules_that_differ_are_not_equal():
    assert s.Constant(1) == s.Constant(1.0) != s.Constant(2.0)
    assert s.Linear(0.1, 0.0, 5) != s.Cosine(0.1, 5)
    assert s.Constant(1.0) != 1.0
    plateau, other = s.Plateau(0.1), s.Plateau(0.1)
    assert plateau == other == copy.deepcopy(plateau)
    other.update(1.0)
    assert s.Warmup(plateau, 3) != s.Warmup(other, 3)
    with pytest.raises(TypeError, match="unhashable"):
        hash(plateau)


def test_plot_shows_every_step():
    pytest.importorskip("matplotlib")
    (axes,) = s.plot_schedule(s.Linear(0.0, 1.0, 10), 20).axes
    (line,) = axes.lines
    assert line.get_ydata().tolist() == s.Linear(0.0, 1.0, 10)(np.arange(20)).tolist()


VARYING = [
    (
        fastopt.SGD,
        "sgd",
        {"momentum": s.Linear(0.5, 0.9, 7), "dampening": s.Constant(0.1), "weight_decay": s.Cosine(0.1, 9)},
    ),
    (fastopt.SGD, "sgd", {"momentum": s.Linear(0.0, 0.9, 3)}),  # keeps the buffer while momentum is 0
    (fastopt.SGD, "sgd", {"momentum": s.PiecewiseConstant(0.9, {3: 0.0, 6: 2.0}), "dampening": 0.5}),
    (fastopt.RMSprop, "rmsprop", {"momentum": s.Linear(0.0, 0.9, 3)}),
    (fastopt.Momentum, "momentum", {"momentum": s.Linear(0.5, 0.9, 7), "form": "ema"}),
    (
        fastopt.RMSprop,
        "rmsprop",
        {"alpha": s.Linear(0.5, 0.9, 7), "eps": s.Exponential(1e-3, 0.5), "momentum": s.Constant(0.3)},
    ),
    (fastopt.Adagrad, "adagrad", {"lr_decay": s.Linear(0.0, 0.5, 7), "eps": s.Exponential(1e-3, 0.5)}),
    (fastopt.Adam, "adam", {"betas": (s.Linear(0.5, 0.9, 7), 0.99), "weight_decay": s.Warmup(s.Constant(0.1), 5)}),
    (
        fastopt.AdamW,
        "adam",
        {"betas": (0.9, s.Cyclic(0.9, 0.99, 3)), "weight_decay": s.Linear(0.0, 0.1, 5), "lr": s.Cosine(0.1, 9)},
    ),
]


@pytest.mark.parametrize(("cls", "rule", "options"), VARYING, ids=lambda x: getattr(x, "__name__", ""))
def test_any_hyperparameter_can_be_a_schedule(cls, rule, options):
    rng = np.random.default_rng(0)
    param, fixed = np.ones((2, 50)), rng.normal(size=50)
    other_param = fixed.copy()
    optimizer = cls([{"params": param[0], **options}, {"params": other_param}])
    plain = cls(fixed)
    group, others = optimizer.param_groups
    states = {name: np.zeros(50) for name in group.state}
    for step in range(1, 13):
        grad = rng.normal(size=50)
        optimizer.step([grad, grad])
        plain.step(grad)
        now = {name: hyperparameter_at(name, value, step - 1) for name, value in group.items()}
        getattr(reference, rule)(param[1], grad, **states, step=step, **now)
        assert same_bits(param[0], param[1]), step
    for name, state in group.state.items():
        assert same_bits(state, states[name])
    assert same_bits(fixed, other_param)
    assert others["lr"] == plain.param_groups[0]["lr"]


def test_step_checks_schedule_values_before_writing():
    param = np.ones(3)
    optimizer = fastopt.Adam(param, weight_decay=s.Linear(0.5, -0.5, 4), betas=(0.9, lambda step: 0.9 + step / 10))
    optimizer.step(np.ones(3))
    before = param.copy()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"betas\[1\] \(the result of .* at step 1\) must be .*, got 1.0"):
            optimizer.step(np.ones(3))
        assert same_bits(param, before)
    optimizer.param_groups[0]["betas"] = (0.9, 0.99)
    optimizer.step(np.ones(3))
    optimizer.step(np.ones(3))
    with pytest.raises(ValueError, match=r"weight_decay \(the result of Linear.* at step 3\) must be .*, got -0.25"):
        optimizer.step(np.ones(3))
    assert optimizer.steps == 3


def test_resumed_run_restores_the_state_of_schedules():
    def make():
        return fastopt.AdamW(
            np.ones(4),
            lr=s.Warmup(s.Plateau(0.1, factor=0.5, patience=0), 3),
            weight_decay=s.Linear(0.0, 0.1, 9),
            betas=(s.Constant(0.8), s.Plateau(0.9)),
        )

    def run(optimizer, steps):
        for _ in range(steps):
            optimizer.param_groups[0]["lr"].schedule.update(1.0)
            optimizer.step(np.linspace(-1, 1, 4))

    whole, first, second = make(), make(), make()
    run(whole, 9)
    run(first, 5)
    saved = first.state_dict()
    assert saved["param_groups"][0]["lr"] == [{"value": 0.1 / 16, "best": 1.0, "bad_epochs": 0, "cooldown_left": 0}]
    assert saved["param_groups"][0]["weight_decay"] is None
    second.load_state_dict(pickle.loads(pickle.dumps(saved)))
    assert second.param_groups[0]["lr"] == first.param_groups[0]["lr"]
    run(second, 4)
    assert second.lr == whole.lr
    for name, state in whole.state.items():
        assert same_bits(state, second.state[name])
