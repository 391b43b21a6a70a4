"""The options that every optimizer has: their types, their defaults, and those of the whole step as attributes."""

from __future__ import annotations

import os
from typing import Literal, TypedDict

from fastopt import _core
from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._param_groups import CHECKS


class Common(TypedDict, total=False):
    """The options that every optimizer has."""

    decoupled_weight_decay: bool
    maximize: bool
    max_grad_norm: float | None
    grad_scale: float
    zero_grads: bool
    convert_grads: bool
    ema_decay: FloatOrSchedule | None
    nonfinite: Literal["propagate", "skip", "raise"]
    state_dir: str | os.PathLike[str] | None


GROUP_DEFAULTS = {"maximize": False, "decoupled_weight_decay": False}
STEP_DEFAULTS = {
    "max_grad_norm": None,
    "grad_scale": 1.0,
    "zero_grads": False,
    "convert_grads": False,
    "ema_decay": None,
    "nonfinite": "propagate",
    "state_dir": None,
}


class StepOptions:
    """The options of the whole step, as attributes of an optimizer."""

    _options: Common
    _plan: _core.Plan

    @property
    def grad_scale(self) -> float:
        """The number that gradients are divided by; it may be set between steps."""
        return self._plan.grad_scale

    @grad_scale.setter
    def grad_scale(self, value: float) -> None:
        with self._plan:
            self._plan.grad_scale = CHECKS["grad_scale"]("grad_scale", value)

    @property
    def max_grad_norm(self) -> float | None:
        """The largest global norm that gradients are scaled to, or None; it may be set between steps."""
        return self._plan.max_norm

    @max_grad_norm.setter
    def max_grad_norm(self, value: float | None) -> None:
        with self._plan:
            self._plan.max_norm = CHECKS["max_grad_norm"]("max_grad_norm", value)

    @property
    def zero_grads(self) -> bool:
        """Whether a step sets the gradients to zero."""
        return self._options["zero_grads"]

    @property
    def convert_grads(self) -> bool:
        """Whether gradients of another dtype or layout are copied."""
        return self._options["convert_grads"]

    @property
    def ema_decay(self) -> FloatOrSchedule | None:
        """The decay of the moving average of the parameters, or a function, or None."""
        return self._options["ema_decay"]

    @property
    def nonfinite(self) -> str:
        """The policy for gradients that are not finite."""
        return self._options["nonfinite"]

    @property
    def state_dir(self) -> str | os.PathLike[str] | None:
        """The folder of the memory-mapped states, or None."""
        return self._options["state_dir"]
