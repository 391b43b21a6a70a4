"""What surrounds the steps of an epoch: mini-batches, and when to stop.

>>> import numpy as np
>>> x, y = np.arange(10.0), np.arange(10) % 2
>>> early_stopping = EarlyStopping(patience=2)
>>> w = np.zeros(1)
>>> for epoch in range(100):
...     for inputs, labels in batches(x, y, batch_size=4, epoch=epoch):
...         w += inputs.sum() / 45  # a step of an optimizer
...     if early_stopping.update(abs(w[0] - 3.0), w):
...         break
>>> early_stopping.restore(w)
>>> epoch, w.round(6)
(4, array([3.]))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array
from fastopt._util.validation import (
    any_number,
    check_keys,
    choice,
    count,
    non_negative,
    not_nan,
    optional,
    positive_count,
)
from fastopt.optimizers._param_tree import check_arrays, pairs, plain
from fastopt.optimizers._state import Changes

__all__ = ["EarlyStopping"]


@dataclass(eq=False)
class EarlyStopping:
    """Stop when a metric has not improved for ``patience`` epochs, and keep a copy of the best parameters.

    ``update(metric, params)`` after each epoch tells whether to stop. An epoch is good when its metric is below the
    best one by more than ``min_delta`` (above, with ``mode="max"``); a NaN never is. The first ``warmup`` epochs don't
    count: they are neither good nor bad, and nothing is copied. With as many bad epochs in a row as ``patience``, at
    least 1, it is time to stop. All this is as in Keras.

    ``best`` is the metric of the last good epoch and ``best_epoch`` its number, from 0 (None before there is one);
    ``epochs`` were seen, and the last ``bad_epochs`` of them were bad; ``stopped`` is what ``update`` told last.
    Parameters are what an optimizer takes without groups: a ``Flat``, one array, a list or tuple, a mapping of names to
    arrays. Source: Prechelt, "Early stopping - but when?", 1998.

    >>> early_stopping, w = EarlyStopping(patience=2), np.zeros(2)
    >>> for loss in [3.0, 2.0, 2.5, 2.0]:
    ...     w += 1
    ...     print(early_stopping.update(loss, w))
    False
    False
    False
    True
    >>> early_stopping.restore(w)
    >>> early_stopping.best, early_stopping.best_epoch, w
    (2.0, 1, array([2., 2.]))
    """

    patience: int = 10
    _: KW_ONLY
    min_delta: float = 0.0
    mode: Literal["min", "max"] = "min"
    warmup: int = 0
    best: float = field(init=False)
    best_epoch: int | None = field(init=False, default=None)
    epochs: int = field(init=False, default=0)
    bad_epochs: int = field(init=False, default=0)
    _params: Any = field(init=False, default=None, repr=False)  # the copy, in plain arrays

    def __post_init__(self) -> None:
        self.patience = positive_count("patience", self.patience)
        self.min_delta = non_negative("min_delta", self.min_delta)
        self.mode = choice("min", "max")("mode", self.mode)
        self.warmup = count("warmup", self.warmup)
        self.best = math.inf if self.mode == "min" else -math.inf

    @property
    def stopped(self) -> bool:
        """Whether it is time to stop."""
        return self.bad_epochs >= self.patience

    def update(self, metric: float, params: Any) -> bool:
        """Take note of an epoch, copy the parameters if it is the best, and tell whether to stop.

        Nothing changes if it raises: ``TypeError`` or ``ValueError`` for a metric that is no number, for parameters
        that an optimizer would not take, and for others than before.
        """
        metric = any_number("metric", metric)
        of_best, copies = self._paired(params, written=False), []
        news: dict[str, Any] = {"epochs": self.epochs + 1}
        if self.epochs >= self.warmup and self._is_better(metric):
            news |= {"best": metric, "best_epoch": self.epochs, "bad_epochs": 0}
            if self._params is None:
                news["_params"] = plain(params)
            copies = of_best
        elif self.epochs >= self.warmup:
            news["bad_epochs"] = self.bad_epochs + 1
        _core.commit(copies, [(vars(self), news)])
        return self.stopped

    def restore(self, params: Any) -> None:
        """Write the best parameters into these, in place.

        Nothing is written if it raises: ``RuntimeError`` if there was no good epoch yet, ``TypeError`` or
        ``ValueError`` for parameters of another kind, shape or dtype, or which can't be written.
        """
        copies = self._paired(params, written=True)
        if self._params is None:
            raise RuntimeError(f"there are no best parameters after {self.epochs} epochs; wants a good epoch first")
        _core.commit([(target, own) for own, target in copies], [])

    def _is_better(self, metric: float) -> bool:
        if self.mode == "min":
            return metric < self.best - self.min_delta
        return metric > self.best + self.min_delta

    def _paired(self, params: Any, written: bool) -> list[tuple[Array, Array]]:
        """Pair each array of the copy, if there is one, with that of the parameters; raises where these are wrong."""
        check_arrays("params", params, written)
        return [] if self._params is None else pairs(self._params, params, "params")

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """Give a copy of all that ``update`` changes: plain numbers, and the best parameters in plain arrays, or None.

        The arguments are left out: make the new one with the same.
        """
        return self._state_dict(np.array)

    def _state_dict(self, array: Callable[[Any], Array]) -> dict[str, Any]:
        params = None if self._params is None else plain(self._params, array)
        return {**{name: check(name, getattr(self, name)) for name, check in _MEMORY.items()}, "params": params}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave; everything is checked before anything changes.

        Raises ``ValueError`` or ``TypeError`` for what is missing, unknown or out of range.
        """
        _core.commit(*self._checked_state("state_dict", state_dict))

    def _checked_state(self, where: str, state_dict: Any) -> Changes:
        """Check what ``state_dict`` gave, which stands ``where``, and give what takes it over."""
        check_keys(where, state_dict, [*_MEMORY, "params"])
        memory = {name: check(f"{where}[{name!r}]", state_dict[name]) for name, check in _MEMORY.items()}
        params = state_dict["params"]
        if (params is None) != (memory["best_epoch"] is None):
            raise ValueError(
                f"{where}['params'] is a {type(params).__name__!r} with best_epoch {memory['best_epoch']}; "
                "wants None where that is None, and nowhere else"
            )
        if params is not None and memory["best_epoch"] + 1 + memory["bad_epochs"] > memory["epochs"]:
            raise ValueError(f"{where} has {memory}; wants the best epoch before the bad ones, among the epochs")
        if params is not None:
            check_arrays(f"{where}['params']", params, written=False)
            params = plain(params)

        return Changes([], [(vars(self), {**memory, "_params": params})])


_MEMORY: dict[str, Callable[[str, Any], Any]] = {
    "best": not_nan,
    "best_epoch": optional(count),
    "epochs": count,
    "bad_epochs": count,
}
