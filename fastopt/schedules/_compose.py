"""Schedules that are made from other schedules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence, Sized

from fastopt._util.validation import FunctionOfStep, count, finite, function_of_step
from fastopt.schedules._base import FrozenSchedule, linear, value_at


class Warmup(FrozenSchedule):
    r"""Linear warmup to the first value of another schedule, which starts when the warmup is over.

    .. math:: \eta_t = \begin{cases} s + (f(0) - s)\, t / w & t < w \\ f(t - w) & t \ge w \end{cases}

    Parameters
    ----------
    schedule : callable
        The schedule f, or another function of the step; its step 0 is step ``warmup_steps`` of this schedule.
    warmup_steps : int
        Number w of warmup steps, >= 0.
    start : float, default 0.0
        Finite value s at step 0.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or ``schedule`` returns something other than a number.
    ValueError
        If an argument is out of range.

    See Also
    --------
    Join : Any sequence of schedules.

    Notes
    -----
    ``Warmup(Cosine(peak, d - w, end), w, start)`` is ``optax.warmup_cosine_decay_schedule(start, peak, w, d, end)``
    unless the peak is 0; its ``decay_steps`` d includes the warmup. In PyTorch it is ``SequentialLR`` with a
    ``LinearLR`` first; Keras has ``CosineDecay(..., warmup_target, warmup_steps)``.

    References
    ----------
    .. [1] P. Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017. arXiv:1706.02677.

    Examples
    --------
    >>> from fastopt.schedules import Exponential, Warmup
    >>> Warmup(Exponential(0.8, 0.5), warmup_steps=4)([0, 1, 2, 3, 4, 5, 6])
    array([0. , 0.2, 0.4, 0.6, 0.8, 0.4, 0.2])
    """

    def __init__(self, schedule: FunctionOfStep, warmup_steps: int, start: float = 0.0) -> None:
        self.schedule = function_of_step("schedule", schedule)
        self.warmup_steps = count("warmup_steps", warmup_steps)
        self.start = finite("start", start)

    def at(self, step: int) -> float:
        if step >= self.warmup_steps:
            return value_at(self.schedule, step - self.warmup_steps)
        return linear(self.start, value_at(self.schedule, 0), step / self.warmup_steps)


class Join(FrozenSchedule):
    """Several schedules one after the other, each of which starts at its own step 0.

    Parameters
    ----------
    schedules : sequence of callable
        Schedules, or other functions of the step; at least one.
    boundaries : sequence of int
        Steps at which the second, third, ... schedule starts: >= 0, in ascending order, one less than ``schedules``.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or a schedule returns something other than a number.
    ValueError
        If there are no schedules, not as many boundaries as expected, or they are negative or not in ascending order.

    Notes
    -----
    The same as ``optax.join_schedules(schedules, boundaries)``, and as ``SequentialLR(schedulers, milestones)`` in
    PyTorch.

    Examples
    --------
    >>> from fastopt.schedules import Constant, Join, Linear
    >>> Join([Constant(1.0), Linear(1.0, 0.0, 4)], boundaries=[2])([0, 1, 2, 3, 4, 5, 6])
    array([1.  , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])
    """

    def __init__(self, schedules: Sequence[FunctionOfStep], boundaries: Sequence[int]) -> None:
        for name, value in (("schedules", schedules), ("boundaries", boundaries)):
            if not isinstance(value, Sized):
                raise TypeError(f"{name} must be a list or tuple, got {type(value).__name__!r}")
        if not len(schedules):
            raise ValueError("schedules must contain at least one schedule, got none")
        if len(boundaries) != len(schedules) - 1:
            raise ValueError(
                f"boundaries must have one step less than there are schedules ({len(schedules)}), got {len(boundaries)}"
            )
        self.schedules = tuple(function_of_step(f"schedules[{i}]", schedule) for i, schedule in enumerate(schedules))
        self.boundaries = tuple(count(f"boundaries[{i}]", boundary) for i, boundary in enumerate(boundaries))
        if list(self.boundaries) != sorted(self.boundaries):
            raise ValueError(f"boundaries must be in ascending order, got {boundaries!r}")

    def at(self, step: int) -> float:
        index = bisect_right(self.boundaries, step)
        start = self.boundaries[index - 1] if index else 0
        return value_at(self.schedules[index], step - start)
