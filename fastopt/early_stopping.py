"""Early stopping: when to end training, and a copy of the best parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from fastopt import _core
from fastopt._util import validation
from fastopt._util.arrays import Array
from fastopt._util.records import attributes_repr
from fastopt.optimizers._param_tree import check_arrays, pairs, plain

__all__ = ["EarlyStopping"]

STATE_CHECKS: dict[str, validation.Check] = {
    "best": validation.not_nan,
    "best_epoch": validation.optional(validation.count),
    "epochs": validation.count,
    "bad_epochs": validation.count,
}


class EarlyStopping:
    """Stop training when a metric has stopped improving, and keep a copy of the best parameters.

    Call `update` with the metric and the parameters after each epoch, and end the training when it returns True; then
    call `restore`. `update` describes the rules.

    Parameters
    ----------
    patience : int, default 10
        Number of bad epochs in a row after which to stop, >= 1.
    min_delta : float, default 0.0
        The metric must improve by more than this to count as better, >= 0 and finite.
    mode : {"min", "max"}, default "min"
        Whether a smaller or a larger metric is better.
    start_from_epoch : int, default 0
        Number of epochs at the start that are neither good nor bad, >= 0. Their parameters are not copied.

    Attributes
    ----------
    best : float
        The metric of the last good epoch; before the first one, the worst possible metric, an infinity.
    best_epoch : int or None
        The number of the last good epoch, from 0; None before the first one.
    epochs : int
        Number of epochs recorded.
    bad_epochs : int
        Number of bad epochs since the last good one.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    The arguments have the names and the rules of Keras's ``EarlyStopping``, where ``bad_epochs`` is called ``wait``.
    Keras never stops after the first epoch, however bad, and its ``patience=0`` is the same as 1. The best parameters
    are written back by `restore` only, as with ``restore_best_weights=False``. PyTorch Lightning has the same
    ``patience``, ``min_delta`` and ``mode``, but stops at once at a NaN by default.

    An update at a good epoch makes the new copy before it drops the old one, so there are two copies for a moment.

    References
    ----------
    .. [1] L. Prechelt, "Early Stopping - But When?", in Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import EarlyStopping
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

    def __init__(
        self,
        patience: int = 10,
        *,
        min_delta: float = 0.0,
        mode: Literal["min", "max"] = "min",
        start_from_epoch: int = 0,
    ) -> None:
        self.patience = validation.positive_count("patience", patience)
        self.min_delta = validation.non_negative("min_delta", min_delta)
        self.mode = validation.choice("min", "max")("mode", mode)
        self.start_from_epoch = validation.count("start_from_epoch", start_from_epoch)
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch: int | None = None
        self.epochs = 0
        self.bad_epochs = 0
        self._best_params: Any = None  # in plain arrays

    __repr__ = attributes_repr

    @property
    def stopped(self) -> bool:
        """Whether there were ``patience`` bad epochs in a row, as the last `update` returned."""
        return self.bad_epochs >= self.patience

    def update(self, metric: float, params: Any) -> bool:
        """Record an epoch, copy the parameters if it is the best one, and return whether to stop.

        An epoch is good if ``metric + min_delta < best`` (``metric - min_delta > best`` with ``mode="max"``), and bad
        otherwise. A NaN is always bad, and so is the worst infinity. Training should stop after ``patience`` bad epochs
        in a row.

        Parameters
        ----------
        metric : float
            The metric of the epoch.
        params : Flat, ndarray, sequence or mapping of ndarray
            The parameters, in the same form at each call: float32 or float64 arrays, as an optimizer takes them without
            groups, or ``optimizer.ema``. An empty list if there is nothing to copy.

        Returns
        -------
        bool
            Whether to stop.

        Raises
        ------
        TypeError, ValueError
            If the metric is not a real number, or the parameters are not valid or differ in form, shape or dtype from
            the copy. Nothing is changed.
        """
        metric = validation.any_number("metric", metric)
        self._check_params(params, writable=False)
        changes: dict[str, Any] = {"epochs": self.epochs + 1}
        if self.epochs >= self.start_from_epoch:
            if self._is_better(metric):
                changes |= {"best": metric, "best_epoch": self.epochs, "bad_epochs": 0, "_best_params": plain(params)}
            else:
                changes["bad_epochs"] = self.bad_epochs + 1
        vars(self).update(changes)  # all or nothing: Ctrl-C cannot interrupt it
        return self.stopped

    def restore(self, params: Any) -> None:
        """Write the best parameters into ``params``, in place.

        Parameters
        ----------
        params : Flat, ndarray, sequence or mapping of ndarray
            Writable parameters of the same form, shapes and dtypes as those given to `update`.

        Raises
        ------
        RuntimeError
            If there was no good epoch yet.
        TypeError, ValueError
            If the parameters differ in form, shape or dtype, or are read-only. Nothing is written.
        """
        self._check_params(params, writable=True)
        if self._best_params is None:
            raise RuntimeError(f"there are no parameters to restore: none of {self.epochs} epochs was good")
        _core.commit(pairs(params, self._best_params, "params"), [])

    def _is_better(self, metric: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        return sign * metric - self.min_delta > sign * self.best

    def _check_params(self, params: Any, writable: bool) -> None:
        """Check the parameters; they must match the copy if there is one."""
        check_arrays("params", params, writable)
        if self._best_params is not None:
            pairs(self._best_params, params, "params")

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state, without the arguments.

        Returns
        -------
        dict
            ``best``, ``best_epoch``, ``epochs`` and ``bad_epochs`` as numbers, and ``params``: the best parameters as
            an array or a list or dict of arrays, or None before the first good epoch.
        """
        return self._state_dict(np.array)

    def _state_dict(self, array: Callable[[Any], Array]) -> dict[str, Any]:
        """Return the state; ``array`` converts the arrays, ``numpy.asarray`` without a copy."""
        params = None if self._best_params is None else plain(self._best_params, array)
        return {**{name: check(name, getattr(self, name)) for name, check in STATE_CHECKS.items()}, "params": params}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state that ``state_dict`` returned.

        Parameters
        ----------
        state_dict : dict
            The state. Its arrays are copied.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value is invalid. Nothing is changed.
        """
        vars(self).update(self._check_state("state_dict", state_dict))

    def _check_state(self, name: str, state_dict: Any) -> dict[str, Any]:
        """Return the attributes to set in order to load a state, or raise; ``name`` is used in error messages."""
        state = validation.check_state(name, state_dict, STATE_CHECKS, ["params"])
        params = state_dict["params"]
        if (params is None) != (state["best_epoch"] is None):
            raise ValueError(
                f"{name}['params'] must be None if and only if best_epoch is None, "
                f"got {type(params).__name__!r} with best_epoch {state['best_epoch']}"
            )
        best_epoch = -1 if params is None else state["best_epoch"]
        if best_epoch + 1 + state["bad_epochs"] > state["epochs"]:
            raise ValueError(f"{name} must have best_epoch + 1 + bad_epochs <= epochs (None counts as -1), got {state}")
        if params is not None:
            check_arrays(f"{name}['params']", params, writable=False)
            params = plain(params)
        return {**state, "_best_params": params}
