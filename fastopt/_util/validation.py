"""Argument checks with one form of error: "lr must be a finite number >= 0, got -1".

A check takes the name of an argument and its value, and returns the value, converted to float, int or Path. It raises
``TypeError`` for a wrong type and ``ValueError`` for a value out of range.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

COUNT_BITS = 62  # keeps the core's int64 counters far from overflow

FunctionOfStep: TypeAlias = Callable[[int], float]
FloatOrSchedule: TypeAlias = float | FunctionOfStep
Check: TypeAlias = Callable[[str, Any], Any]


def number(expected: str, is_allowed: Callable[[float], bool]) -> Callable[[str, Any], float]:
    """Return a check for a real number in a range; ``expected`` describes the range."""

    def check(name: str, value: Any) -> float:
        if type(value) is not float and not is_real(value):
            raise TypeError(f"{name} must be {expected}, got {value!r}")
        try:
            result = float(value)
        except OverflowError:  # an int beyond the range of float
            result = math.inf if value > 0 else -math.inf
        if not is_allowed(result):
            raise ValueError(f"{name} must be {expected}, got {value!r}")
        return result

    return check


def integer(expected: str, low: int, bits: int = COUNT_BITS) -> Callable[[str, Any], int]:
    """Return a check for an integer from ``low`` to 2**bits - 1; ``expected`` describes the range."""
    end = 2**bits

    def check(name: str, value: Any) -> int:
        if type(value) is not int and not is_int(value):  # type() is faster
            raise TypeError(f"{name} must be {expected}, got {value!r}")
        result = int(value)
        if result < low:
            raise ValueError(f"{name} must be {expected}, got {value!r}")
        if result >= end:
            raise ValueError(f"{name} must be an int < 2**{bits}, got {value!r}")
        return result

    return check


def is_real(value: Any) -> bool:
    """Return whether the value is a real number: Python's, NumPy's or an array without dimensions."""
    if getattr(value, "shape", None) == ():
        return np.asarray(value).dtype.kind in "fiu"
    return isinstance(value, Real) and not isinstance(value, bool)


def is_int(value: Any) -> bool:
    """Return whether the value is an integer, Python's or NumPy's, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def choice(*options: Any) -> Check:
    """Return a check for one of several strings or constants; 1 does not count as True."""
    expected = " or ".join(map(repr, options))

    def check(name: str, value: Any) -> Any:
        for option in options:
            if value is option or (isinstance(value, type(option)) and value == option):
                return value
        raise ValueError(f"{name} must be {expected}, got {value!r}")

    return check


def optional(check: Check) -> Check:
    """Return a check that also accepts None."""
    return lambda name, value: None if value is None else check(name, value)


any_number = number("a number", lambda x: True)
not_nan = number("a number, not NaN", lambda x: not math.isnan(x))
finite = number("a finite number", math.isfinite)
non_negative = number("a finite number >= 0", lambda x: 0 <= x < math.inf)
positive = number("a number > 0", lambda x: x > 0)
finite_positive = number("a finite number > 0", lambda x: 0 < x < math.inf)
decay = number("a number in [0, 1)", lambda x: 0 <= x < 1)
fraction = number("a number in [0, 1]", lambda x: 0 <= x <= 1)
count = integer("an int >= 0", 0)  # a number of steps, epochs or rows
positive_count = integer("an int >= 1", 1)
flag = choice(True, False)


def pair(name: str, value: Any, expected: str, check: Check) -> tuple[Any, Any]:
    """Check a tuple or list of two values, each with ``check``."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    return check(f"{name}[0]", value[0]), check(f"{name}[1]", value[1])


def betas(name: str, value: Any, check: Check = decay) -> tuple[Any, Any]:
    """Check Adam's two decay rates, each with ``check``."""
    return pair(name, value, "two numbers in [0, 1)", check)


def function_of_step(name: str, value: Any) -> FunctionOfStep:
    """Check a schedule or another function of the step."""
    if not callable(value):
        raise TypeError(f"{name} must be a schedule or another function of the step, got {value!r}")
    return value  # type: ignore[no-any-return]


def directory(name: str, value: Any) -> Path:
    """Check the path of an existing directory and return it as an absolute path."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be the path of a directory, got {value!r}")
    if not os.path.isdir(value):  # Path("") would be the current directory
        raise ValueError(f"{name} must be an existing directory, got {str(value)!r}")
    return Path(value).absolute()


def check_instance(name: str, value: Any, cls: type) -> None:
    """Raise ``TypeError`` if a value is not an instance of a class that fastopt exports."""
    if not isinstance(value, cls):
        raise TypeError(f"{name} must be a fastopt.{cls.__name__}, got {type(value).__name__!r}")


def check_known(owner: str, names: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for the first name that is not a known option."""
    for name in names:
        if name not in known:
            raise TypeError(f"{owner} has no option {name!r}; options are {', '.join(known)}")


def check_keys(name: str, value: Any, expected: list[str]) -> None:
    """Raise if a state is not a mapping with exactly the expected keys."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, got {type(value).__name__!r}")
    if set(value) != set(expected):
        missing, extra = sorted(set(expected) - set(value)), sorted(map(str, set(value) - set(expected)))
        raise ValueError(f"{name} must have the keys {sorted(expected)}, got {missing} missing and {extra} extra")


def check_state(name: str, value: Any, checks: Mapping[str, Check], others: Iterable[str] = ()) -> dict[str, Any]:
    """Check each value of a state, a mapping with exactly these keys and ``others``, and return them without those."""
    check_keys(name, value, [*checks, *others])
    return {key: check(f"{name}[{key!r}]", value[key]) for key, check in checks.items()}
