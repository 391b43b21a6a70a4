"""Learning rate range test: train for some steps at growing rates, suggest one, and undo the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt._util.arrays import Array
from fastopt._util.records import Frozen
from fastopt._util.validation import any_number, check_instance, finite_positive, integer
from fastopt.optimizers._base import Optimizer
from fastopt.optimizers._param_tree import check_arrays
from fastopt.optimizers._state import trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LRFinderResult", "find_lr"]

SMOOTHING = 0.05  # of all steps: the distance over which the weights of the smoothed loss fall to 1/e
DIVERGENCE = 3.0  # times the average magnitude of the losses: how far above its lowest value the smoothed loss may be


class LRFinderResult(Frozen):
    """Result of a learning rate range test, which `find_lr` returns.

    Parameters
    ----------
    rates : ndarray of float64
        Learning rates of the steps that were done, ascending.
    losses : ndarray of float64
        Losses of these steps.
    suggestion : float or None
        The suggested learning rate, if there is one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import LRFinderResult
    >>> result = LRFinderResult(np.array([0.01, 0.1, 1.0]), np.array([2.0, 1.0, 4.0]), 0.1)
    >>> result.plot().savefig("rates.png")  # doctest: +SKIP
    """

    def __init__(self, rates: Array, losses: Array, suggestion: float | None) -> None:
        self.rates = rates
        self.losses = losses
        self.suggestion = suggestion

    def plot(self) -> Figure:
        """Plot the losses over the rates, and the suggestion, with matplotlib.

        Returns
        -------
        matplotlib.figure.Figure
            A new figure, which is not registered with pyplot: save it with ``figure.savefig(path)``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from matplotlib.figure import Figure  # noqa: PLC0415  optional dependency

        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, ".-", linewidth=0.8)
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="C1", label=f"suggestion {self.suggestion:.2g}")
            axes.legend()
            descent = _descent(self.losses)
            low, high = descent.min(), descent.max()
            # losses that diverge would hide the others
            axes.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low))
        axes.grid(alpha=0.3)
        return figure


def find_lr(
    step: Callable[[int], float],
    optimizer: Optimizer,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    restore: Any = (),
) -> LRFinderResult:
    r"""Suggest a learning rate by a range test: train at growing rates, then undo all steps.

    The rate of step i is :math:`start \cdot (end / start)^{i / (steps - 1)}`, in all parameter groups. The test ends
    early when a loss is not finite or the smoothed loss diverges.

    Parameters
    ----------
    step : callable
        ``step(i)`` does the i-th step, from 0: it computes the loss and the gradients of a batch, calls
        ``optimizer.step`` and returns the loss. It is called up to ``steps`` times.
    optimizer : Optimizer
        The optimizer that ``step`` uses.
    start, end : float, default 1e-7 and 10.0
        The first and the last rate, > 0 and finite, ``start`` below ``end``.
    steps : int, default 100
        Number of steps, >= 2.
    restore : Flat, ndarray, sequence or mapping of ndarray, optional
        Other arrays that a step changes, for example the running averages of a batch normalization.

    Returns
    -------
    LRFinderResult
        Rates, losses and the suggestion: the rate at which the loss falls fastest per logarithm of the rate, before its
        lowest value. It is None if the lowest loss is one of the first two. Trust its order of magnitude only, and look
        at the plot.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or ``step`` returns something other than a number.
    ValueError
        If an argument is out of range.
    RuntimeError
        If gradients were accumulated since the last step, or another thread uses the optimizer.

    Notes
    -----
    When the test ends, also by an exception, the parameters, states, counts and hyperparameters of the optimizer, the
    schedules among these, each `DynamicLossScale` of the optimizer and the arrays in ``restore`` are set back, bit for
    bit. Gradients and other objects that ``step`` changes, an `EarlyStopping` for example, are not.

    Losses are smoothed by an exponential average whose weights fall to 1/e over a twentieth of ``steps``; for the
    suggestion it is centered, so that it does not lag. The loss diverges when this average, after that many steps,
    exceeds its lowest value by 3 times the average magnitude of the losses there (so a positive one by a factor of 4).

    References
    ----------
    .. [1] L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017. arXiv:1506.01186.

    Examples
    --------
    >>> import fastopt
    >>> import numpy as np
    >>> w = np.full(3, 5.0)
    >>> optimizer = fastopt.SGD(w)
    >>> def step(i):
    ...     loss = 0.5 * float(w @ w)
    ...     optimizer.step(w.copy())
    ...     return loss
    >>> result = fastopt.find_lr(step, optimizer)
    >>> 0.01 < result.suggestion < 1, optimizer.steps, w
    (True, 0, array([5., 5., 5.]))
    """
    if not callable(step):
        raise TypeError(f"step must be a function of the step number that returns the loss, got {step!r}")
    check_instance("optimizer", optimizer, Optimizer)
    start, end = finite_positive("start", start), finite_positive("end", end)
    steps = integer("an int >= 2", 2)("steps", steps)
    if start >= end:
        raise ValueError(f"start must be below end ({end!r}), got {start!r}")
    arrays = check_arrays("restore", restore)
    rates, width = np.geomspace(start, end, steps), SMOOTHING * steps
    with trial(optimizer, arrays):
        losses = np.array(_train(step, optimizer, rates.tolist(), width))
    rates = rates[: len(losses)].copy()
    return LRFinderResult(rates, losses, _steepest(rates, losses, width))


def _train(step: Callable[[int], float], optimizer: Optimizer, rates: list[float], width: float) -> list[float]:
    """Do a step at each rate until the loss diverges, and return the losses."""
    losses: list[float] = []
    best = margin = math.inf
    for i, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses.append(any_number(f"step({i})", step(i)))
        if not math.isfinite(losses[-1]):
            break
        quarters = np.array(losses) / 4.0  # so that best + margin is finite
        smoothed = _smoothed(quarters, i, width)
        if i >= width and smoothed < best:
            best, margin = smoothed, DIVERGENCE * _smoothed(abs(quarters), i, width)
        if smoothed > best + margin:
            break
    return losses


def _smoothed(losses: Array, i: int, width: float) -> float:
    """Return the average of the losses around loss i; at the last loss it is an exponential moving average."""
    weights = np.exp(-np.abs(np.arange(len(losses)) - i) / width)
    return float((weights / weights.sum()) @ losses)


def _descent(losses: Array) -> Array:
    """Return the losses up to the lowest one, without a last loss that is not finite."""
    return losses[: int(np.argmin(np.where(np.isfinite(losses), losses, math.inf))) + 1]


def _steepest(rates: Array, losses: Array, width: float) -> float | None:
    """Return the rate of the steepest descent, or None if the lowest loss is one of the first two."""
    descent = _descent(losses) / 4.0  # so that differences are finite
    if len(descent) < 3:
        return None
    slopes = np.gradient([_smoothed(descent, i, width) for i in range(len(descent))])
    return float(rates[slopes.argmin()])
