"""The base classes of schedules, and the curves that several schedules share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast, overload

import numpy as np
import numpy.typing as npt

from fastopt._util.records import Frozen, attributes_equal, attributes_repr
from fastopt._util.validation import Check, FunctionOfStep, any_number, check_state


class Schedule:
    """Base class of all schedules.

    A subclass implements `at`. Optimizers accept any function of the step as well; what this class adds is that a
    schedule accepts an array of steps, and that the state of schedules in its attributes is saved.

    See Also
    --------
    StatefulSchedule : Base class of schedules whose own state must be saved.

    Examples
    --------
    >>> from fastopt.schedules import Schedule
    >>> class InverseSquareRoot(Schedule):
    ...     def at(self, step):
    ...         return 0.1 / (1 + step) ** 0.5
    >>> schedule = InverseSquareRoot()
    >>> schedule(3)
    0.05
    >>> schedule([0, 3, 24])
    array([0.1 , 0.05, 0.02])
    """

    __repr__ = attributes_repr

    def at(self, step: int) -> float:
        """Return the value at one step.

        Parameters
        ----------
        step : int
            Step number, >= 0; 0 is the first step.

        Returns
        -------
        float
            The value.
        """
        raise NotImplementedError

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: npt.ArrayLike) -> float | npt.NDArray[np.float64]: ...
    def __call__(self, step: Any) -> Any:
        """Return the value at a step, or an array of the values at several steps.

        Parameters
        ----------
        step : int or array_like of int
            Step numbers, >= 0; 0 is the first step.

        Returns
        -------
        float or ndarray of float64
            The value at each step, in the shape of ``step``.

        Raises
        ------
        TypeError
            If ``step`` contains anything but integers.
        ValueError
            If a step is negative.
        """
        if type(step) is int and step >= 0:
            return self.at(step)
        steps = np.asarray(step)
        if steps.dtype.kind not in "iu" and steps.size:
            raise TypeError(f"step must be an int >= 0 or an array of them, got {step!r}")
        if (steps < 0).any():
            raise ValueError(f"step must be an int >= 0 or an array of them, got {step!r}")
        if steps.ndim == 0:
            return self.at(int(steps))
        return np.array([self.at(t) for t in steps.ravel().tolist()], np.float64).reshape(steps.shape)


class FrozenSchedule(Frozen, Schedule):
    """Base class of the schedules without state: immutable, and equal if their arguments are equal."""

    __eq__ = attributes_equal

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))


class StatefulSchedule(Schedule):
    """Base class of schedules with state, which optimizers and checkpoints save and load.

    A subclass implements `at` and lists the attributes to save in ``state_checks``. An optimizer finds the schedule as
    a hyperparameter and also in the attributes of another schedule, for example in `Warmup` or `Join`.

    Attributes
    ----------
    state_checks : dict
        Class attribute that maps the name of each saved attribute to a function ``check(name, value)``, which returns
        the value to load or raises ``TypeError`` or ``ValueError``. Values must be numbers, strings or None.

    See Also
    --------
    Plateau : The stateful schedule that fastopt provides.

    Examples
    --------
    >>> import fastopt
    >>> import numpy as np
    >>> from fastopt.schedules import StatefulSchedule
    >>> class Halving(StatefulSchedule):
    ...     state_checks = {"value": lambda name, value: float(value)}
    ...
    ...     def __init__(self, value):
    ...         self.value = value
    ...
    ...     def halve(self):
    ...         self.value /= 2
    ...
    ...     def at(self, step):
    ...         return self.value
    >>> rate = Halving(0.1)
    >>> rate.halve()
    >>> fastopt.SGD(np.zeros(3), lr=rate).state_dict()["param_groups"][0]["lr"]
    [{'value': 0.05}]
    """

    state_checks = cast("Mapping[str, Check]", {})

    __eq__ = attributes_equal

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def state_dict(self) -> dict[str, Any]:
        """Return the state.

        Returns
        -------
        dict
            The attributes that ``state_checks`` names.
        """
        return {name: check(name, getattr(self, name)) for name, check in self.state_checks.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state that ``state_dict`` returned.

        Parameters
        ----------
        state_dict : dict
            The state of a schedule of the same class.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value is invalid. Nothing is changed.
        """
        vars(self).update(self._check_state("state_dict", state_dict))

    def _check_state(self, name: str, state_dict: Any) -> dict[str, Any]:
        """Return the attributes to set in order to load a state, or raise; ``name`` is used in error messages."""
        return check_state(name, state_dict, self.state_checks)


def stateful_schedules(schedule: Any) -> list[StatefulSchedule]:
    """Return the stateful schedules in a hyperparameter: a schedule, or a number, list, tuple or mapping of them."""
    found = [schedule] if isinstance(schedule, StatefulSchedule) else []
    inner = vars(schedule) if isinstance(schedule, Schedule) else schedule
    if isinstance(inner, Mapping):
        inner = tuple(inner.values())
    if isinstance(inner, (tuple, list)):
        found += [stateful for part in inner for stateful in stateful_schedules(part)]
    return found


def value_at(schedule: FunctionOfStep, step: int) -> float:
    """Return the value of a schedule or another function of the step, which must be a number."""
    value = schedule(step)
    return value if type(value) is float else any_number(f"{schedule!r}({step})", value)


def step_function(function: Any) -> Any:
    """Return what a step calls: ``at`` of a schedule, which takes 0.1 us less from the core than its check of the step.

    Values that are not schedules, or whose class has a check of its own, are returned as they are.
    """
    is_plain = isinstance(function, Schedule) and type(function).__call__ is Schedule.__call__
    return function.at if is_plain else function


def linear(start: float, end: float, progress: float) -> float:
    """Interpolate linearly; the result is exact at both ends and stays at ``end`` for a progress above 1."""
    return end if progress >= 1.0 else start + (end - start) * progress


def cosine(start: float, end: float, progress: float) -> float:
    """Interpolate along half a period of a cosine; the result is exact at both ends and constant beyond them."""
    if not 0.0 < progress < 1.0:
        return start if progress <= 0.0 else end
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))


def scaled_power(factor: float, base: float, exponent: float) -> float:
    """Return factor * base**exponent, for a base > 0; if it overflows, an infinity with the sign of the factor."""
    log2 = exponent * math.log2(base)
    if abs(log2) < 1000.0:
        return factor * math.pow(base, exponent)
    mantissa, shift = math.frexp(factor)  # the power may be out of range although the result is not
    try:
        return math.ldexp(mantissa * 2.0 ** (log2 % 1.0), shift + math.floor(log2))
    except OverflowError:
        return math.copysign(math.inf, factor)
