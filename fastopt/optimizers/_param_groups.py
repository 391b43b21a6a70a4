"""The hyperparameters of a parameter group, and the values that each may have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from fastopt import _core
from fastopt._util import validation
from fastopt.optimizers._param_tree import param_tree
from fastopt.schedules._base import step_function

if TYPE_CHECKING:
    from fastopt.optimizers._base import Optimizer


def or_function(check: validation.Check) -> validation.Check:
    """Return a check that also accepts a function, but not a class: that of a schedule in its place is a mistake."""
    return lambda name, value: value if callable(value) and not isinstance(value, type) else check(name, value)


FLAGS = ["amsgrad", "centered", "decoupled_weight_decay", "eps_hat", "eps_inside_sqrt", "maximize", "nesterov"]
CHECKS: dict[str, validation.Check] = {
    "lr": validation.non_negative,
    "betas": validation.betas,
    "lr_decay": validation.non_negative,
    "eps": validation.non_negative,
    "initial_accumulator_value": validation.non_negative,
    "weight_decay": validation.non_negative,
    "alpha": validation.decay,
    "momentum": validation.decay,
    "dampening": validation.fraction,
    "form": validation.choice("classical", "ema"),
    **dict.fromkeys(FLAGS, validation.flag),
    # options of the whole step
    "max_grad_norm": validation.optional(validation.positive),
    "grad_scale": validation.finite_positive,
    "zero_grads": validation.flag,
    "convert_grads": validation.flag,
    "ema_decay": validation.optional(or_function(validation.decay)),
    "nonfinite": validation.choice("propagate", "skip", "raise"),
    "state_dir": validation.optional(validation.directory),
}

MAY_VARY = {"lr", "lr_decay", "eps", "weight_decay", "alpha", "momentum", "dampening"}  # and either of the betas


def check_hyperparameter(name: str, label: str, value: Any) -> Any:
    """Check a hyperparameter; if it is a function of the step, its results are checked at each step."""
    if name == "betas":
        return validation.betas(label, value, or_function(validation.decay))
    check = CHECKS[name]
    return or_function(check)(label, value) if name in MAY_VARY else check(label, value)


def varies(value: Any) -> bool:
    """Whether a hyperparameter is a function of the step."""
    return callable(value) or (isinstance(value, tuple) and any(map(callable, value)))


def hyperparameter_at(name: str, value: Any, steps: int) -> Any:
    """Return a hyperparameter after a number of completed steps."""
    if isinstance(value, tuple):
        return tuple(result_at(f"{name}[{i}]", validation.decay, beta, steps) for i, beta in enumerate(value))
    return result_at(name, CHECKS[name], value, steps)


def result_at(label: str, check: validation.Check, value: Any, steps: int) -> Any:
    """Return the checked result of a function of the step, or a value that is not a function as it is."""
    if not callable(value):
        return value
    return checked_result(label, check, value, steps, value(steps))


def checked_result(label: str, check: validation.Check, value: Any, steps: int, result: Any) -> Any:
    """Return the checked result of a function of the step."""
    with suppress(TypeError, ValueError):
        return check(label, result)
    return check(f"{label} (the result of {value!r} at step {steps})", result)  # this label takes longer than a check


class Group(MutableMapping[str, Any]):
    """The hyperparameters of a parameter group: a dictionary that checks its values.

    ``group["lr"] = 0.01`` changes a hyperparameter from the next step on. A change that would need other states
    (``amsgrad``, for example) raises ``ValueError``. ``group.state`` maps the name of each state to a structure like
    the parameters.
    """

    checked: dict[str, Any]  # the hyperparameters as a plain dictionary, which is replaced and never changed
    kernel: str
    resolved: dict[str, Any]  # the hyperparameters of the next step, in which only the rate may be a function
    state: Any = None  # a mapping, once the states are allocated

    def __init__(self, cls: type[Optimizer], where: str, values: Mapping[str, Any], source: Mapping[str, Any]) -> None:
        self.source = source  # the user's group dict, or {"params": ...}
        self.tree = param_tree(source["params"])
        self._cls = cls
        self._where = where
        self._plan: _core.Plan | None = None
        self.checked = self._check(values, where)
        self.resolved = dict(self.checked)
        self.kernel = cls._kernel(self.checked)

    def _check(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        label = where + "[{!r}]" if where else "{}"
        return {name: check_hyperparameter(name, label.format(name), value) for name, value in values.items()}

    def changed(self, changes: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Return all hyperparameters after some changes, called ``where`` in errors, or raise."""
        validation.check_known(self._cls.__name__, changes, self.checked)
        checked = {**self.checked, **self._check(changes, where or self._where)}
        kernel = self._cls._kernel(checked)
        if kernel != self.kernel:
            names = ", ".join(name for name in changes if checked[name] != self.checked[name])
            raise ValueError(
                f"{names} must not change the states, got values that need those of {kernel!r} instead of "
                f"{self.kernel!r}: make a new optimizer"
            )
        return checked

    @property
    def varies(self) -> bool:
        """Whether a hyperparameter other than the rate is a function of the step."""
        return any(varies(value) for name, value in self.checked.items() if name != "lr")

    def at(self, steps: int) -> dict[str, Any]:
        """Return the hyperparameters after a number of completed steps; the rate stays a function if it is one."""
        return {
            name: step_function(value) if name == "lr" else hyperparameter_at(name, value, steps)
            for name, value in self.checked.items()
        }

    def __getitem__(self, name: str) -> Any:
        return self.checked[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "lr" and isinstance(value, float) and 0.0 <= value < math.inf:
            self.checked = {**self.checked, "lr": float(value)}  # fast: many loops set it before each step
            self.resolved["lr"] = float(value)
        else:
            self.update({name: value})

    def update(self, *changes: Any, **more: Any) -> None:
        """Change several hyperparameters, or none if one of them is wrong."""
        self.checked = self.changed(dict(*changes, **more))
        if self._plan is not None:
            self._plan.dirty = True

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError(f"{name} cannot be removed from a group")

    def __iter__(self) -> Iterator[str]:
        return iter(self.checked)

    def __len__(self) -> int:
        return len(self.checked)

    def __repr__(self) -> str:
        return repr(self.checked)
