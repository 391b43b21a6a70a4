"""Argument checks with one form of error: "lr must be a finite number >= 0, got -1".

A check takes the name of an argument and its value, and returns the value, converted to float, int, bool, str or Path.
It raises ``TypeError`` for a wrong type and ``ValueError`` for a value out of range. NumPy's scalars and arrays without
dimensions count as the Python objects that they hold.
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

OTHER_NAMES = {  # of options, in PyTorch, Keras, Optax, MLX, scikit-learn, thinc and autograd
    "lr": ["learning_rate", "learning_rate_init", "learn_rate", "step_size", "eta"],
    "betas": ["beta1", "beta2", "beta_1", "beta_2", "b1", "b2"],
    "eps": ["epsilon"],
    "momentum": ["mass", "nesterovs_momentum"],
    "alpha": ["rho", "decay", "gamma"],
    "weight_decay": ["wd", "L2", "l2", "lambda"],
    "decoupled_weight_decay": ["L2_is_weight_decay"],
    "max_grad_norm": ["clipnorm", "global_clipnorm", "clip_norm", "grad_clip"],
    "grad_scale": ["loss_scale_factor"],
    "ema_decay": ["ema_momentum", "use_ema", "use_averages"],
}

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


def python_scalar(value: Any) -> Any:
    """Return the bool, number or string in a NumPy scalar or an array without dimensions; other values as they are."""
    if getattr(value, "shape", None) != () or hasattr(value, "mask"):
        return value
    array = np.asarray(value)
    return array.item() if array.dtype.kind in "biufU" else value


def is_real(value: Any) -> bool:
    """Return whether the value is a real number, and not a bool."""
    value = python_scalar(value)
    return isinstance(value, Real) and not isinstance(value, (bool, np.timedelta64))


def is_int(value: Any) -> bool:
    """Return whether the value is an integer, and not a bool."""
    value = python_scalar(value)
    return isinstance(value, Integral) and not isinstance(value, (bool, np.timedelta64))


def choice(*options: Any) -> Check:
    """Return a check for one of several strings or constants; 1 does not count as True."""
    expected = " or ".join(map(repr, options))

    def check(name: str, value: Any) -> Any:
        found = value if type(value) in (str, bool) else python_scalar(value)  # type() is faster
        for option in options:
            if isinstance(found, type(option)) and found == option:
                return option
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
    """Check a tuple, list or array of two values, each with ``check``."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
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
    """Raise ``TypeError`` for the first name that is not a known option, with the option that is probably meant."""
    for name in names:
        if name not in known:
            from difflib import get_close_matches  # noqa: PLC0415  rarely needed, and takes a while to import

            meant = [option for option, others in OTHER_NAMES.items() if name in others]
            meant = [option for option in meant or get_close_matches(str(name), known, 1) if option in known]
            hint = f"did you mean {meant[0]!r}? Options" if meant else "options"
            raise TypeError(f"{owner} has no option {name!r}; {hint} are {', '.join(known)}")


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
