r"""Functions of the step, for the learning rate or any other hyperparameter.

A schedule takes a step, counted from 0 for the first, and gives a number; it takes an array of steps as well and gives
an array, for plots. It remembers nothing, so a run that is resumed needs only its number of steps. Equal schedules
compare equal, print what they are, and can be pickled. `Plateau` alone has a memory, which an optimizer saves.

>>> import numpy as np
>>> import fastopt
>>> schedule = Warmup(Cosine(0.1, 1000), 100)
>>> schedule(0), schedule(50), schedule(100), schedule(600)
(0.0, 0.05, 0.1, 0.05)
>>> optimizer = fastopt.SGD(np.zeros(3), lr=schedule, momentum=Linear(0.5, 0.9, 500), weight_decay=1e-4)

Arguments have the names of Optax. Each class raises ``TypeError`` or ``ValueError`` for arguments that can't be used.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from fastopt import _core
from fastopt._util.validation import (
    FunctionOfStep,
    any_number,
    check_keys,
    choice,
    count,
    decay,
    finite,
    finite_positive,
    fraction,
    function_of_step,
    non_negative,
    not_nan,
    positive_count,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Exponential",
    "InverseTimeDecay",
    "Linear",
    "PiecewiseConstant",
    "OneCycle",
    "Plateau",
    "Polynomial",
    "Schedule",
    "Join",
    "StepDecay",
    "Warmup",
    "WarmupStableDecay",
    "plot_schedule",
]


class Schedule:
    """What all schedules share: they are called with a step or an array of steps.

    >>> isinstance(Linear(1.0, 0.0, 10), Schedule)
    True
    """

    def at(self, step: int) -> float:
        """Give the value of one step."""
        raise NotImplementedError

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: npt.ArrayLike) -> float | npt.NDArray[np.float64]: ...
    def __call__(self, step: Any) -> Any:
        """Give the value of a step, or an array of those of an array of steps."""
        if type(step) is int and step >= 0:
            return self.at(step)
        steps = np.asarray(step)
        if steps.dtype.kind not in "iu" and steps.size:
            raise TypeError(f"step is {step!r}; wants an int >= 0, or an array of these")
        if (steps < 0).any():
            raise ValueError(f"step is {step!r}; wants an int >= 0, or an array of these")
        if steps.ndim == 0:
            return self.at(int(steps))
        return np.array([self.at(t) for t in steps.ravel().tolist()], np.float64).reshape(steps.shape)

    def _check(self, **checks: Callable[[str, Any], Any]) -> None:
        """Check arguments, and keep what the checks give."""
        for name, check in checks.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value in every step.

    >>> Constant(0.1)(1000)
    0.1
    """

    value: float

    def __post_init__(self) -> None:
        self._check(value=finite)

    def at(self, step: int) -> float:
        """Give the value."""
        return self.value


@dataclass(frozen=True)
class Exponential(Schedule):
    r"""Exponential decay: :math:`\eta_0\, \gamma^{t / k}`.

    ``decay_rate`` is :math:`\gamma`, ``transition_steps`` k. The form :math:`\eta_0\, e^{-\lambda t}` has
    ``decay_rate=math.exp(-lambda_)``.

    >>> Exponential(0.1, 0.5, transition_steps=10)(20)
    0.025
    """

    init_value: float
    decay_rate: float
    transition_steps: int = 1

    def __post_init__(self) -> None:
        self._check(init_value=finite, decay_rate=finite_positive, transition_steps=positive_count)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        return _power(self.init_value, self.decay_rate, step / self.transition_steps)


@dataclass(frozen=True)
class StepDecay(Schedule):
    r"""A factor after every so many steps: :math:`\eta_0\, \gamma^{\lfloor t / k \rfloor}`, PyTorch's ``StepLR``.

    ``decay_rate`` is :math:`\gamma`, ``step_size`` k.

    >>> StepDecay(0.1, step_size=30, decay_rate=0.5)(np.array([0, 29, 30, 60]))
    array([0.1  , 0.1  , 0.05 , 0.025])
    """

    init_value: float
    step_size: int
    decay_rate: float = 0.1

    def __post_init__(self) -> None:
        self._check(init_value=finite, step_size=positive_count, decay_rate=finite_positive)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        return _power(self.init_value, self.decay_rate, step // self.step_size)


@dataclass(frozen=True)
class PiecewiseConstant(Schedule):
    r"""Piecewise constant: :math:`\eta_0` times the factors of all boundaries that have been reached.

    ``boundaries_and_scales`` maps steps to factors, as in Optax' ``piecewise_constant_schedule``; a list of pairs will
    do. PyTorch's ``MultiStepLR`` has the same factor at all.

    >>> PiecewiseConstant(1.0, {100: 0.1, 200: 0.5})(np.array([99, 100, 200]))
    array([1.  , 0.1 , 0.05])
    """

    init_value: float
    boundaries_and_scales: tuple[tuple[int, float], ...]

    def __init__(
        self, init_value: float, boundaries_and_scales: Mapping[int, float] | Sequence[tuple[int, float]]
    ) -> None:
        name = "boundaries_and_scales"
        given = boundaries_and_scales.items() if isinstance(boundaries_and_scales, Mapping) else boundaries_and_scales
        try:
            pairs = [(boundary, scale) for boundary, scale in given]
        except (TypeError, ValueError):
            raise TypeError(f"{name} is {boundaries_and_scales!r}; wants a mapping of steps to factors") from None
        checked = sorted((count(f"a step in {name}", b), finite(f"{name}[{b!r}]", s)) for b, s in pairs)
        if len({boundary for boundary, _ in checked}) != len(checked):
            raise ValueError(f"{name} is {boundaries_and_scales!r}; wants each step once")
        object.__setattr__(self, "init_value", finite("init_value", init_value))
        object.__setattr__(self, name, tuple(checked))

    def at(self, step: int) -> float:
        """Give the value of one step."""
        value = self.init_value
        for boundary, scale in self.boundaries_and_scales:
            if step >= boundary:
                value *= scale
        return value


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    r"""Decay with time: :math:`\eta_0 / (1 + \lambda t)`.

    ``decay_rate`` is :math:`\lambda`.

    >>> InverseTimeDecay(0.1, decay_rate=0.5)(2)
    0.05
    """

    init_value: float
    decay_rate: float

    def __post_init__(self) -> None:
        self._check(init_value=finite, decay_rate=non_negative)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        return self.init_value / (1.0 + self.decay_rate * step)


@dataclass(frozen=True)
class Polynomial(Schedule):
    r"""From one value to another in T steps: :math:`\eta_T + (\eta_0 - \eta_T) (1 - t / T)^{power}`, flat after T.

    ``transition_steps`` is T. With ``power=1`` it is `Linear`.

    >>> Polynomial(1.0, 0.0, power=2, transition_steps=10)(5)
    0.25
    """

    init_value: float
    end_value: float
    power: float
    transition_steps: int

    def __post_init__(self) -> None:
        self._check(init_value=finite, end_value=finite, power=finite_positive, transition_steps=positive_count)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        left = 1.0 - min(step / self.transition_steps, 1.0)
        return self.end_value + (self.init_value - self.end_value) * math.pow(left, self.power)


@dataclass(frozen=True)
class Linear(Schedule):
    r"""A straight line from one value to another in T steps, flat after T.

    ``transition_steps`` is T.

    >>> Linear(0.0, 1.0, transition_steps=4)(np.arange(6))
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.  ])
    """

    init_value: float
    end_value: float
    transition_steps: int

    def __post_init__(self) -> None:
        self._check(init_value=finite, end_value=finite, transition_steps=positive_count)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        return _line(self.init_value, self.end_value, step / self.transition_steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Half a cosine down: :math:`\eta_T + \tfrac12 (\eta_0 - \eta_T) (1 + \cos(\pi t / T))`, flat after T.

    ``decay_steps`` is T. Source: Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts",
    ICLR 2017, arXiv:1608.03983.

    >>> Cosine(0.2, decay_steps=100)(np.array([0, 50, 100, 200]))
    array([0.2, 0.1, 0. , 0. ])
    """

    init_value: float
    decay_steps: int
    end_value: float = 0.0

    def __post_init__(self) -> None:
        self._check(init_value=finite, decay_steps=positive_count, end_value=finite)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        return _cosine(self.init_value, self.end_value, step / self.decay_steps)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    r"""Half a cosine down in T steps, again and again, each time ``multiplier`` times as long.

    ``decay_steps`` is T, the length of the first period. PyTorch's ``CosineAnnealingWarmRestarts``. Source: Loshchilov
    & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, arXiv:1608.03983.

    >>> CosineRestarts(0.2, decay_steps=10, multiplier=2)(np.array([0, 5, 10, 20, 30]))
    array([0.2, 0.1, 0.2, 0.1, 0.2])
    """

    init_value: float
    decay_steps: int
    multiplier: int = 1
    end_value: float = 0.0

    def __post_init__(self) -> None:
        self._check(init_value=finite, decay_steps=positive_count, multiplier=positive_count, end_value=finite)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        period = self.decay_steps
        if self.multiplier == 1:
            step %= period
        while step >= period:
            step -= period
            period *= self.multiplier
        return _cosine(self.init_value, self.end_value, step / period)


@dataclass(frozen=True)
class OneCycle(Schedule):
    r"""Up to a peak and down to almost nothing in T steps, both as half a cosine; flat after T.

    From ``peak_value / div_factor`` to ``peak_value`` in ``pct_start`` of the steps, then to
    ``peak_value / div_factor / final_div_factor``. ``transition_steps`` is T, and the clock is that of Optax'
    ``cosine_onecycle_schedule``; PyTorch's ``OneCycleLR`` has its peak and its end one step earlier. Source: Smith &
    Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018,
    arXiv:1708.07120.

    >>> OneCycle(100, peak_value=1.0, pct_start=0.25, div_factor=4, final_div_factor=10)(np.array([0, 25, 100]))
    array([0.25 , 1.   , 0.025])
    """

    transition_steps: int
    peak_value: float
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        self._check(
            transition_steps=positive_count,
            peak_value=finite,
            pct_start=fraction,
            div_factor=finite_positive,
            final_div_factor=finite_positive,
        )

    def at(self, step: int) -> float:
        """Give the value of one step."""
        start, peak = self.peak_value / self.div_factor, self.pct_start * self.transition_steps
        if step < peak:
            return _cosine(start, self.peak_value, step / peak)
        left = max(self.transition_steps - peak, 1e-300)  # at pct_start 1 the end follows the peak at once
        return _cosine(self.peak_value, start / self.final_div_factor, (step - peak) / left)


@dataclass(frozen=True)
class Cyclic(Schedule):
    r"""A triangle: up in ``step_size_up`` steps and down in ``step_size_down`` (None: as many), again and again.

    PyTorch's ``CyclicLR``. Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017,
    arXiv:1506.01186.

    >>> Cyclic(0.1, 0.5, step_size_up=2)(np.arange(6))
    array([0.1, 0.3, 0.5, 0.3, 0.1, 0.3])
    """

    base_value: float
    peak_value: float
    step_size_up: int
    step_size_down: int | None = None

    def __post_init__(self) -> None:
        self._check(base_value=finite, peak_value=finite, step_size_up=positive_count)
        if self.step_size_down is not None:
            self._check(step_size_down=positive_count)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        up = self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        step %= up + down
        return _line(self.base_value, self.peak_value, step / up if step <= up else 1.0 - (step - up) / down)


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    r"""Straight up from 0 to ``peak_value``, flat, straight down to ``end_value``, each in so many steps; then flat.

    Source: Hu et al., "MiniCPM: unveiling the potential of small language models with scalable training strategies",
    2024, arXiv:2404.06395.

    >>> WarmupStableDecay(1.0, warmup_steps=2, stable_steps=3, decay_steps=4)(np.arange(10))
    array([0.  , 0.5 , 1.  , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])
    """

    peak_value: float
    warmup_steps: int
    stable_steps: int
    decay_steps: int
    end_value: float = 0.0

    def __post_init__(self) -> None:
        self._check(
            peak_value=finite, warmup_steps=count, stable_steps=count, decay_steps=positive_count, end_value=finite
        )

    def at(self, step: int) -> float:
        """Give the value of one step."""
        if step < self.warmup_steps:
            return _line(0.0, self.peak_value, step / self.warmup_steps)
        decayed = max(step - self.warmup_steps - self.stable_steps, 0)
        return _line(self.peak_value, self.end_value, decayed / self.decay_steps)


@dataclass(frozen=True)
class Warmup(Schedule):
    r"""A straight line from ``start`` to the first value of a schedule, then this, whose own clock starts there.

    ``schedule`` is any function of the step, ``warmup_steps`` how long the line is. Source: Goyal et al., "Accurate,
    large minibatch SGD: training ImageNet in 1 hour", 2017, arXiv:1706.02677.

    >>> Warmup(Exponential(0.8, 0.5), warmup_steps=4)(np.arange(7))
    array([0. , 0.2, 0.4, 0.6, 0.8, 0.4, 0.2])
    """

    schedule: FunctionOfStep
    warmup_steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        self._check(schedule=function_of_step, warmup_steps=count, start=finite)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        if step >= self.warmup_steps:
            return _value(self.schedule, step - self.warmup_steps)
        return _line(self.start, _value(self.schedule, 0), step / self.warmup_steps)


@dataclass(frozen=True)
class Join(Schedule):
    r"""One schedule after the other, each with its own clock: Optax' ``join_schedules``.

    ``boundaries`` are the steps at which the second, the third, ... begins.

    >>> Join([Constant(1.0), Linear(1.0, 0.0, 4)], boundaries=[2])(np.arange(7))
    array([1.  , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])
    """

    schedules: tuple[FunctionOfStep, ...]
    boundaries: tuple[int, ...]

    def __init__(self, schedules: Sequence[FunctionOfStep], boundaries: Sequence[int]) -> None:
        for name, things in {"schedules": schedules, "boundaries": boundaries}.items():
            if not isinstance(things, Sized):
                raise TypeError(f"{name} is a {type(things).__name__!r}; wants a list or tuple")
        if len(schedules) != len(boundaries) + 1:
            raise ValueError(
                f"boundaries has {len(boundaries)} steps; wants one less than the {len(schedules)} schedules"
            )
        parts = tuple(function_of_step(f"schedules[{i}]", schedule) for i, schedule in enumerate(schedules))
        steps = tuple(count(f"boundaries[{i}]", boundary) for i, boundary in enumerate(boundaries))
        if list(steps) != sorted(steps):
            raise ValueError(f"boundaries is {boundaries!r}; wants steps in rising order")
        object.__setattr__(self, "schedules", parts)
        object.__setattr__(self, "boundaries", steps)

    def at(self, step: int) -> float:
        """Give the value of one step."""
        which = bisect_right(self.boundaries, step)
        begun = self.boundaries[which - 1] if which else 0
        return _value(self.schedules[which], step - begun)


@dataclass
class Plateau(Schedule):
    r"""Reduce a value when a metric has stopped to improve: times ``factor``, once ``patience`` epochs are exceeded.

    ``update(metric)`` after each epoch. An epoch is good when the metric is below the best one (above, with
    ``mode="max"``) by more than ``threshold``, a fraction of the best or with ``threshold_mode="abs"`` an amount.
    After a reduction, bad epochs count again after ``cooldown`` epochs. The value falls no lower than ``min_value``.
    It is PyTorch's ``ReduceLROnPlateau``. The memory (``value``, ``best``, ``bad_epochs``, ``cooldown_left``) is part of
    the ``state_dict()`` of the optimizer that has the schedule, also inside `Warmup` or `Join`.

    >>> rate = Plateau(0.1, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     rate.update(loss)
    >>> rate(4)
    0.05
    """

    init_value: float
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_value: float = 0.0
    mode: Literal["min", "max"] = "min"
    value: float = field(init=False)
    best: float = field(init=False)
    bad_epochs: int = field(init=False, default=0)
    cooldown_left: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._check(
            init_value=finite,
            factor=decay,
            patience=count,
            threshold=non_negative,
            threshold_mode=choice("rel", "abs"),
            cooldown=count,
            min_value=finite,
            mode=choice("min", "max"),
        )
        self.value = self.init_value
        self.best = math.inf if self.mode == "min" else -math.inf

    def at(self, step: int) -> float:
        """Give the value, whatever the step."""
        return self.value

    def update(self, metric: float) -> None:
        """Take note of an epoch; a NaN is a bad one."""
        metric = any_number("metric", metric)
        if self._is_better(metric):
            self.best, self.bad_epochs = metric, 0
        else:
            self.bad_epochs += 1
        if self.cooldown_left:
            self.cooldown_left -= 1
            self.bad_epochs = 0
        if self.bad_epochs > self.patience:
            self.value = min(self.value, max(self.value * self.factor, self.min_value))
            self.cooldown_left, self.bad_epochs = self.cooldown, 0

    def _is_better(self, metric: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "abs":
            return sign * metric > sign * self.best + self.threshold
        return sign * metric > sign * self.best * (1.0 + sign * self.threshold)

    def state_dict(self) -> dict[str, float]:
        """Give the memory."""
        return {name: check(name, getattr(self, name)) for name, check in _MEMORY.items()}

    def checked_state(self, where: str, state: Any) -> dict[str, float]:
        """Give what ``load_state_dict`` would take over, or raise what is wrong with it; ``where`` it stands."""
        check_keys(where, state, list(_MEMORY))
        return {name: check(f"{where}[{name!r}]", state[name]) for name, check in _MEMORY.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave; nothing changes if something is missing or wrong."""
        checked = self.checked_state("state_dict", state_dict)
        _core.commit([], [(vars(self), checked)])


def memories(schedule: Any) -> list[Plateau]:
    """Find the schedules with a memory, in the order in which they stand in others."""
    if isinstance(schedule, Plateau):
        return [schedule]
    if isinstance(schedule, Schedule):
        schedule = vars(schedule)
    if isinstance(schedule, Mapping):
        schedule = tuple(schedule.values())
    return [found for part in schedule for found in memories(part)] if isinstance(schedule, (tuple, list)) else []


def plot_schedule(schedule: FunctionOfStep, steps: int) -> Figure:
    """Draw the first ``steps`` steps of a schedule; needs matplotlib.

    >>> figure = plot_schedule(Cosine(0.1, 1000), 1200)
    >>> figure.savefig("schedule.png")  # doctest: +SKIP
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra

    function_of_step("schedule", schedule)
    positive_count("steps", steps)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(steps), [any_number(f"schedule({step})", schedule(step)) for step in range(steps)])
    axes.set(xlabel="step", ylabel="value", title=repr(schedule), xlim=(0, max(steps - 1, 1)))
    axes.title.set_fontsize(8)
    axes.grid(alpha=0.3)
    return figure


def _line(start: float, end: float, part: float) -> float:
    """Go a part of the way from start to end, both exact."""
    return end if part >= 1.0 else start + (end - start) * part


def _cosine(start: float, end: float, part: float) -> float:
    """Go along half a cosine from start to end, both exact."""
    if not 0.0 < part < 1.0:
        return start if part <= 0.0 else end
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * part))


def _power(start: float, base: float, exponent: float) -> float:
    """Give start * base^exponent, infinite where the power is beyond a float and start isn't zero."""
    try:
        return start * math.pow(base, exponent)
    except OverflowError:
        return math.copysign(math.inf, start) if start else start


def _value(schedule: FunctionOfStep, step: int) -> float:
    value = schedule(step)
    return value if type(value) is float else any_number(f"what {schedule!r} gives for step {step}", value)


_MEMORY: dict[str, Callable[[str, Any], Any]] = {
    "value": finite,
    "best": not_nan,
    "bad_epochs": count,
    "cooldown_left": count,
}
