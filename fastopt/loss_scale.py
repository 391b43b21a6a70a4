"""A loss scale that finds itself, for gradients that come from half precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from fastopt._util.validation import check_keys, count, finite_positive, fraction, number, positive_count
from fastopt.optimizers._base import Optimizer

__all__ = ["DynamicLossScale"]

LEAST, MOST = 2.0**-126, 2.0**127  # whose products with ordinary float32 numbers are such

_in_range = number("a number from 2^-126 to 2^127", lambda x: LEAST <= x <= MOST)
_growing = number("a finite number >= 1", lambda x: 1 <= x < float("inf"))


@dataclass(eq=False)
class DynamicLossScale:
    r"""Multiply the loss by a scale that is as large as the gradients bear.

    Gradients in half precision that are below 6e-8 are zero. Times a ``scale`` s they are not, and the optimizer
    divides by it again, exactly where s is a power of two. Where the products overflow the step is skipped, and s
    becomes s times ``backoff_factor``; after ``growth_interval`` steps in a row that were not, s times
    ``growth_factor``. The scale is the ``grad_scale`` of the ``optimizer``, which must have ``nonfinite="skip"``; call
    `update` after each step. Names and rule are those of PyTorch's ``GradScaler``; s stays within 2^-126 and 2^127.
    Source: Micikevicius et al., "Mixed precision training", ICLR 2018, arXiv:1710.03740.

    >>> import fastopt, numpy as np
    >>> params = np.zeros(2, np.float32)
    >>> optimizer = fastopt.SGD(params, lr=1.0, nonfinite="skip")
    >>> loss_scale = DynamicLossScale(optimizer, init_scale=2.0**15)
    >>> for _ in range(2):
    ...     with np.errstate(over="ignore"):
    ...         half = np.array([1e-4, 3.0], np.float16) * np.float16(loss_scale.scale)  # what a network gives
    ...     optimizer.step(half.astype(np.float32))
    ...     loss_scale.update()
    >>> optimizer.skipped, loss_scale.scale, params.round(4)
    (1, 16384.0, array([-1.e-04, -3.e+00], dtype=float32))
    """

    optimizer: Optimizer
    _: KW_ONLY
    init_scale: float = 2.0**16
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    good_steps: int = field(init=False, default=0)
    """Steps since the scale changed, or since one was skipped."""

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(f"optimizer is a {type(self.optimizer).__name__!r}; wants one of fastopt's")
        if self.optimizer.nonfinite != "skip":
            raise ValueError(f"optimizer has nonfinite={self.optimizer.nonfinite!r}; wants 'skip'")
        self.init_scale = _in_range("init_scale", self.init_scale)
        self.growth_factor = _growing("growth_factor", self.growth_factor)
        self.backoff_factor = fraction("backoff_factor", finite_positive("backoff_factor", self.backoff_factor))
        self.growth_interval = positive_count("growth_interval", self.growth_interval)
        self.optimizer.grad_scale = self.init_scale
        self._seen = self._counts()

    @property
    def scale(self) -> float:
        """What to multiply the loss by."""
        return self.optimizer.grad_scale

    def _counts(self) -> tuple[int, int]:
        return self.optimizer.steps, self.optimizer.skipped

    def update(self) -> None:
        """Take note of the steps since the last call, and change the scale if it is time."""
        (steps, skipped), self._seen = self._seen, self._counts()
        if self._seen[1] > skipped:
            self._change(self.backoff_factor)
            return
        self.good_steps += max(self._seen[0] - steps, 0)  # not of a run that begins again
        if self.good_steps >= self.growth_interval:
            self._change(self.growth_factor)

    def _change(self, factor: float) -> None:
        self.optimizer.grad_scale = min(max(self.scale * factor, LEAST), MOST)
        self.good_steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Give all that ``update`` changes, as plain numbers: what ``values`` of `fastopt.save` has a place for."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave, after the optimizer was loaded; nothing changes if something is wrong."""
        check_keys("state_dict", state_dict, ["scale", "good_steps"])
        scale = _in_range("state_dict['scale']", state_dict["scale"])
        self.good_steps = count("state_dict['good_steps']", state_dict["good_steps"])
        self.optimizer.grad_scale = scale
        self._seen = self._counts()
