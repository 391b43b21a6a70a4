"""Hyperparameters: what each may be, and the group of parameters that has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

from fastopt._util.validation import (
    Check,
    betas,
    check_known,
    choice,
    decay,
    directory,
    finite_positive,
    flag,
    fraction,
    non_negative,
    optional,
    positive,
)

CHECKS: dict[str, Check] = {
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
    "max_grad_norm": optional(positive),
    "grad_scale": finite_positive,
    "zero_grads": flag,
    "ema_decay": optional(decay),
    "nonfinite": choice("propagate", "skip", "raise"),
    "state_dir": optional(directory),
}

MAY_VARY = {"lr", "eps", "weight_decay", "alpha", "momentum", "dampening"}  # and either of the betas


def number_or_function(name: str, label: str, value: Any) -> Any:
    """Check a hyperparameter, which may be a function of the step: its results are checked as they come."""
    if name in MAY_VARY and callable(value):
        return value
    if name == "betas":
        return betas(label, value, lambda own, beta: beta if callable(beta) else decay(own, beta))
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
        check_known(self._owner, changes, self.checked)
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
