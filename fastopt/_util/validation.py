"""What each hyperparameter may be, and the group of parameters that has them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

MOST_STEPS = 2**62  # well inside the int64 that the core counts with

FunctionOfStep: TypeAlias = Callable[[int], float]
Varying: TypeAlias = float | FunctionOfStep
Checker: TypeAlias = Callable[[str, Any], Any]


def number(wanted: str, allowed: Callable[[float], bool]) -> Callable[[str, Any], float]:
    """Make a check for a number in a range, which ``wanted`` describes."""

    def check(name: str, value: Any) -> float:
        if type(value) is not float and not is_real(value):
            raise TypeError(f"{name} is {value!r}; wants {wanted}")
        try:
            result = float(value)
        except OverflowError:  # a vast int
            result = math.inf if value > 0 else -math.inf
        if not allowed(result):  # a NaN is in no range
            raise ValueError(f"{name} is {value!r}; wants {wanted}")
        return result

    return check


def is_real(value: Any) -> bool:
    """Whether a thing is one real number: Python's, NumPy's, or an array without dimensions, as schedules give."""
    if getattr(value, "shape", None) == ():
        return np.asarray(value).dtype.kind in "fiu"
    return isinstance(value, Real) and not isinstance(value, bool)


def is_int(value: Any) -> bool:
    """Whether a thing is an integer: Python's or NumPy's, but no truth and no time."""
    return isinstance(value, Integral) and not isinstance(value, (bool, np.timedelta64))


def choice(*options: Any) -> Checker:
    """Make a check for one of some values."""
    strings = {option for option in options if isinstance(option, str)}

    def check(name: str, value: Any) -> Any:
        known = value in strings if isinstance(value, str) else any(value is option for option in options)
        if not known:
            raise ValueError(f"{name} is {value!r}; wants {' or '.join(map(repr, options))}")
        return value

    return check


def or_none(check: Checker) -> Checker:
    """Let None through, which stands for 'not at all'."""
    return lambda name, value: None if value is None else check(name, value)


any_number = number("a number", lambda x: True)
not_nan = number("a number, not NaN", lambda x: not math.isnan(x))
finite = number("a finite number", math.isfinite)
non_negative = number("a finite number >= 0", lambda x: 0 <= x < math.inf)
positive = number("a number > 0", lambda x: x > 0)
finite_positive = number("a finite number > 0", lambda x: 0 < x < math.inf)
decay = number("a number in [0, 1)", lambda x: 0 <= x < 1)
fraction = number("a number in [0, 1]", lambda x: 0 <= x <= 1)
flag = choice(False, True)


def betas(name: str, value: Any) -> tuple[Any, ...]:
    """Check the two decays of Adam."""
    return pair_of(name, value, decay)


def pair_of(name: str, value: Any, check: Checker) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} is {value!r}; wants two numbers in [0, 1)")
    return tuple(check(f"{name}[{i}]", beta) for i, beta in enumerate(value))


def count(name: str, value: Any, least: int = 0) -> int:
    """Check a number of steps."""
    if not is_int(value):
        raise TypeError(f"{name} is {value!r}; wants an int >= {least}")
    if not least <= int(value) < MOST_STEPS:
        raise ValueError(f"{name} is {value!r}; wants an int >= {least}, below 2^62")
    return int(value)


def positive_count(name: str, value: Any) -> int:
    """Check a number of steps of which there is at least one."""
    return count(name, value, 1)


def step_number(name: str, value: Any) -> int:
    """Check the number of a step."""
    if not is_int(value) or not 1 <= int(value) < MOST_STEPS:
        raise ValueError(f"{name} is {value!r}; wants an int >= 1, below 2^62")
    return int(value)


def function_of_step(name: str, value: Any) -> FunctionOfStep:
    """Check a schedule, or another function of the step."""
    if not callable(value):
        raise TypeError(f"{name} is {value!r}; wants a schedule, or another function of the step")
    return value  # type: ignore[no-any-return]


def folder(name: str, value: Any) -> Path:
    """Check the name of a folder that is there."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} is {value!r}; wants the name of a folder")
    if not str(value) or not Path(value).is_dir():
        raise ValueError(f"{name} is {str(value)!r}; wants a folder that exists")
    return Path(value).absolute()


def check_known(owner: str, names: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise for the first name that is not known."""
    for name in names:
        if name not in known:
            raise TypeError(f"{owner} has no option {name!r}; it has {', '.join(known)}")


def check_names(where: str, got: Any, wanted: list[str]) -> None:
    """Raise where a mapping of saved things has other names than wanted."""
    if not isinstance(got, Mapping):
        raise TypeError(f"{where} is a {type(got).__name__!r}; wants a mapping")
    if set(got) != set(wanted):
        raise ValueError(f"{where} has {sorted(map(str, got))}; wants {sorted(wanted)}")
