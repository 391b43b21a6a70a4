"""The schedule that depends on a metric."""

from __future__ import annotations

import math
from typing import Literal

from fastopt._util.validation import any_number, choice, count, decay, finite, non_negative, not_nan
from fastopt.schedules._base import StatefulSchedule


class Plateau(StatefulSchedule):
    r"""Reduce a value when a metric has stopped improving.

    Call `update` with the metric after each epoch. When more than ``patience`` epochs in a row were bad, the value is
    multiplied by ``factor``. An epoch is good if its metric m is better than the best one so far, :math:`m^*`, by more
    than the threshold :math:`\theta`:

    - ``mode="min"``: :math:`m < m^* - \theta |m^*|`, or :math:`m < m^* - \theta` with ``threshold_mode="abs"``
    - ``mode="max"``: :math:`m > m^* + \theta |m^*|`, or :math:`m > m^* + \theta` with ``threshold_mode="abs"``

    Parameters
    ----------
    init_value : float
        Finite value before the first reduction.
    factor : float, default 0.1
        Factor of each reduction, in [0, 1).
    patience : int, default 10
        Number of bad epochs in a row that are tolerated, >= 0.
    threshold : float, default 1e-4
        Smallest change that counts as an improvement, >= 0 and finite.
    threshold_mode : {"rel", "abs"}, default "rel"
        Whether ``threshold`` is a fraction of the magnitude of the best metric or a difference from it. Every other
        metric is better than the worst infinity, and none is better than the best one.
    cooldown : int, default 0
        Number of epochs after a reduction in which bad epochs are not counted, >= 0.
    min_value : float, default 0.0
        Finite lower bound of a reduced value. An ``init_value`` below it is kept.
    mode : {"min", "max"}, default "min"
        Whether a smaller or a larger metric is better.

    Attributes
    ----------
    value : float
        The current value.
    best : float
        The metric of the last good epoch; at first the worst possible one, an infinity.
    bad_epochs : int
        Number of bad epochs since the last good epoch or reduction.
    cooldown_left : int
        Number of epochs until bad epochs are counted again.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    The rule and the names are those of PyTorch's ``ReduceLROnPlateau``; its ``min_lr`` is ``min_value``, and its
    ``eps``, which skips small reductions, is left out. PyTorch and Optax (``optax.contrib.reduce_on_plateau``) multiply
    the best metric by :math:`1 - \theta` also if it is negative. A metric that stays the same, or gets worse by less
    than the threshold, then counts as better. Here the margin has the same direction for both signs. Keras's
    ``ReduceLROnPlateau`` has an absolute threshold only (``min_delta``), and reduces after ``patience`` bad epochs, one
    epoch earlier.

    The attributes above are the state. An optimizer saves them in its ``state_dict()`` if the schedule is one of its
    hyperparameters, also inside of `Warmup` or `Join`.

    Examples
    --------
    >>> from fastopt.schedules import Plateau
    >>> rate = Plateau(0.1, factor=0.5, patience=1)
    >>> for step, loss in enumerate([3.0, 2.0, 2.0, 2.0]):
    ...     rate.update(loss)
    ...     print(rate(step))
    0.1
    0.1
    0.1
    0.05
    """

    state_checks = {"value": finite, "best": not_nan, "bad_epochs": count, "cooldown_left": count}  # noqa: RUF012

    def __init__(
        self,
        init_value: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_value: float = 0.0,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        self.init_value = finite("init_value", init_value)
        self.factor = decay("factor", factor)
        self.patience = count("patience", patience)
        self.threshold = non_negative("threshold", threshold)
        self.threshold_mode = choice("rel", "abs")("threshold_mode", threshold_mode)
        self.cooldown = count("cooldown", cooldown)
        self.min_value = finite("min_value", min_value)
        self.mode = choice("min", "max")("mode", mode)
        self.value = self.init_value
        self.best = math.inf if self.mode == "min" else -math.inf
        self.bad_epochs = 0
        self.cooldown_left = 0

    def at(self, step: int) -> float:
        return self.value

    def update(self, metric: float) -> None:
        """Record an epoch, and reduce the value if the metric has stopped improving.

        Parameters
        ----------
        metric : float
            The metric of the epoch. NaN counts as a bad epoch.

        Raises
        ------
        TypeError
            If ``metric`` is not a real number. Nothing is changed.
        """
        metric = any_number("metric", metric)
        if self._is_better(metric):
            self.best, self.bad_epochs = metric, 0
        else:
            self.bad_epochs += 1
        if self.cooldown_left:
            self.cooldown_left -= 1
            self.bad_epochs = 0
        if self.bad_epochs > self.patience:
            self.value = min(self.value, max(self.value * self.factor, self.min_value))
            self.cooldown_left, self.bad_epochs = self.cooldown, 0

    def _is_better(self, metric: float) -> bool:
        sign, bound = (1.0 if self.mode == "max" else -1.0), self.best
        if self.threshold_mode == "abs":
            bound += sign * self.threshold
        elif math.isfinite(bound):  # otherwise a threshold >= 1 would make it NaN or change its sign
            bound *= 1.0 + sign * math.copysign(self.threshold, bound)
        return sign * metric > sign * bound
