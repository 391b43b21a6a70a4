"""What each hyperparameter may be, and the group of parameters that has them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

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
    return _both(name, value, decay)


def _both(name: str, value: Any, check: Checker) -> tuple[Any, ...]:
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


CHECKS: dict[str, Checker] = {
    "lr": non_negative,
    "betas": betas,
    "eps": non_negative,
    "weight_decay": non_negative,
    "alpha": decay,
    "momentum": decay,
    "dampening": fraction,
    "form": choice("classical", "ema"),
    **dict.fromkeys(["amsgrad", "centered", "decoupled_weight_decay", "eps_inside_sqrt", "maximize", "nesterov"], flag),
    # of the whole optimizer, not of a group
    "max_grad_norm": or_none(positive),
    "grad_scale": finite_positive,
    "zero_grads": flag,
    "ema_decay": or_none(decay),
    "nonfinite": choice("propagate", "skip", "raise"),
    "state_dir": or_none(folder),
}


def refuse_unknown(owner: str, names: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise for the first name that is not known."""
    for name in names:
        if name not in known:
            raise TypeError(f"{owner} has no option {name!r}; it has {', '.join(known)}")


MAY_VARY = {"lr", "eps", "weight_decay", "alpha", "momentum", "dampening"}  # and either of the betas


def number_or_function(name: str, label: str, value: Any) -> Any:
    """Check a hyperparameter, which may be a function of the step: its results are checked as they come."""
    if name in MAY_VARY and callable(value):
        return value
    if name == "betas":
        return _both(label, value, lambda own, beta: beta if callable(beta) else decay(own, beta))
    return CHECKS[name](label, value)


def varies(value: Any) -> bool:
    """Whether a hyperparameter is a function of the step."""
    return callable(value) or (isinstance(value, tuple) and any(map(callable, value)))


def value_at(name: str, value: Any, steps: int) -> Any:
    """Give a hyperparameter after so many completed steps."""
    if callable(value):
        return CHECKS[name](f"{name}, as the function {value!r} gives it for step {steps},", value(steps))
    if isinstance(value, tuple):
        return CHECKS[name](f"{name} at step {steps}", [beta(steps) if callable(beta) else beta for beta in value])
    return value


def same_names(where: str, got: Any, wanted: list[str]) -> None:
    """Raise where a mapping of saved things has other names than wanted."""
    if not isinstance(got, Mapping):
        raise TypeError(f"{where} is a {type(got).__name__!r}; wants a mapping")
    if set(got) != set(wanted):
        raise ValueError(f"{where} has {sorted(map(str, got))}; wants {sorted(wanted)}")


class Group(MutableMapping[str, Any]):
    """The hyperparameters of some parameters, as a dictionary that checks what is put into it.

    ``group["lr"] = 0.01`` changes a hyperparameter from the next step on; what would need other states (``amsgrad``,
    say) can't be changed. ``group.state`` maps the name of each state to a thing like the parameters.
    """

    state: Mapping[str, Any]

    def __init__(
        self,
        owner: str,
        where: str,
        kernel_of: Callable[[Mapping[str, Any]], str],
        values: Mapping[str, Any],
        news: list[str],
    ) -> None:
        self._owner = owner
        self._where = where
        self._kernel_of = kernel_of
        self._news = news
        self.checked = self._check(values)
        """The hyperparameters as a plain dictionary, for reading."""
        self.kernel = kernel_of(self.checked)
        """The kernel that they need."""

    def _check(self, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        where = where or self._where
        label = where + "[{!r}]" if where else "{}"
        return {name: number_or_function(name, label.format(name), value) for name, value in values.items()}

    def changed(self, changes: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Give the hyperparameters after some changes, or raise what is wrong with these; ``where`` they stand."""
        refuse_unknown(self._owner, changes, self.checked)
        checked = {**self.checked, **self._check(changes, where)}
        kernel = self._kernel_of(checked)
        if kernel != self.kernel:
            raise ValueError(
                f"{dict(changes)} would need the states of {kernel!r}, not of {self.kernel!r}; wants a new optimizer"
            )
        return checked

    @property
    def varies(self) -> bool:
        """Whether more than the rate is a function of the step."""
        return any(varies(value) for name, value in self.checked.items() if name != "lr")

    def at(self, steps: int) -> dict[str, Any]:
        """Give the hyperparameters, all but the rate, after so many completed steps."""
        return {name: value if name == "lr" else value_at(name, value, steps) for name, value in self.checked.items()}

    def __getitem__(self, name: str) -> Any:
        return self.checked[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.put(self.changed({name: value}))

    def update(self, *changes: Any, **more: Any) -> None:
        """Change several hyperparameters, or none if one of them is wrong."""
        self.put(self.changed(dict(*changes, **more)))

    def put(self, checked: dict[str, Any]) -> None:
        """Replace all hyperparameters by what ``changed`` gave, and let the optimizer know."""
        self.checked = checked
        self._news.append("group")

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError(f"{name} can't be removed from a group")

    def __iter__(self) -> Iterator[str]:
        return iter(self.checked)

    def __len__(self) -> int:
        return len(self.checked)

    def __repr__(self) -> str:
        return repr(self.checked)
