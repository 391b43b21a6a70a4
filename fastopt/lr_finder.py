"""The range test for the learning rate: train for some steps at a growing rate, look at the loss, take all back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt._util.arrays import Array
from fastopt._util.validation import any_number, count, finite_positive
from fastopt.optimizers._base import Optimizer
from fastopt.optimizers._param_tree import check_arrays
from fastopt.optimizers._state import trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LRFinderResult", "find_lr"]

REACH = 0.05  # of all steps: the distance at which a loss counts 1/e as much in a smoothed one
DIVERGED = 4.0  # times the best smoothed loss


@dataclass(frozen=True, eq=False)
class LRFinderResult:
    """What `find_lr` found: ``rates`` and ``losses`` of the steps that were done, float64, and a ``suggestion``.

    >>> test = LRFinderResult(np.array([0.01, 0.1, 1.0]), np.array([2.0, 1.0, 4.0]), 0.1)
    >>> test.plot().savefig("rates.png")  # doctest: +SKIP
    """

    rates: Array
    losses: Array
    suggestion: float | None

    def plot(self) -> Figure:
        """Draw the losses against the rates, and the suggestion; needs matplotlib."""
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra

        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, ".-", linewidth=0.8)
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="C1", label=f"suggestion {self.suggestion:.2g}")
            axes.legend()
            descent = _descent(self.losses)
            low, high = descent.min(), descent.max()
            axes.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low))  # what diverged would hide the rest
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
    r"""Train with rates that grow from ``start`` to ``end``, suggest one, and leave everything as it was.

    ``step(i)`` does the i-th step, from 0, with ``optimizer``: it computes loss and gradients of a batch, calls
    ``optimizer.step`` and returns the loss. It is called up to ``steps`` times, at the rates
    :math:`start \cdot (end / start)^{i / (steps - 1)}`, the same in all groups. A loss that is not finite ends the
    test, and so does divergence: the average of the losses so far, whose weights fall by 1/e over a twentieth of the
    steps, is more than 4 times its lowest value (with a negative one, 3 times its size above it).

    The suggestion is the rate at which the loss falls fastest along the logarithm of the rate, before it is at its
    lowest; it is averaged to both sides for this, so that it does not lag behind. It is None where the lowest is one of
    the first two. Take it for a magnitude, and look at the ``plot()``.

    At the end, also by an exception, parameters, states, counts and hyperparameters of the optimizer are what they
    were, to the bit, and so are the arrays in ``restore``, a thing like parameters, for what else a step changes:
    running averages of batch normalisation, say. Gradients are left as they are.

    Raises ``TypeError`` or ``ValueError`` for arguments, or a loss, that can't be used. Source: Smith, "Cyclical
    learning rates for training neural networks", WACV 2017, arXiv:1506.01186.

    >>> import fastopt
    >>> w = np.full(3, 5.0)
    >>> optimizer = fastopt.SGD(w)
    >>> def step(i):
    ...     loss = 0.5 * float(w @ w)
    ...     optimizer.step(w.copy())
    ...     return loss
    >>> found = find_lr(step, optimizer)
    >>> 0.01 < found.suggestion < 1, optimizer.steps, w
    (True, 0, array([5., 5., 5.]))
    """
    if not callable(step):
        raise TypeError(f"step is {step!r}; wants a function of the step's number that returns the loss")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer is a {type(optimizer).__name__!r}; wants one of fastopt's")
    start, end, steps = finite_positive("start", start), finite_positive("end", end), count("steps", steps, 2)
    if start >= end:
        raise ValueError(f"start is {start!r} and end {end!r}; wants start below end")
    others = check_arrays("restore", restore)
    rates, reach = np.geomspace(start, end, steps), REACH * steps
    with trial(optimizer, others):
        losses = np.array(_train(step, optimizer, rates.tolist(), reach))
    rates = rates[: len(losses)].copy()
    return LRFinderResult(rates, losses, _steepest(rates, losses, reach))


def _train(step: Callable[[int], float], optimizer: Optimizer, rates: list[float], reach: float) -> list[float]:
    """Do a step at each rate, until the loss diverges, and give the losses."""
    losses: list[float] = []
    best = math.inf
    for i, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses.append(any_number("the result of step, the loss,", step(i)))
        if not math.isfinite(losses[-1]):
            break
        smoothed = _smoothed(np.array(losses), i, reach)
        best = min(best, smoothed)
        if smoothed > best + (DIVERGED - 1.0) * abs(best):
            break
    return losses


def _smoothed(losses: Array, i: int, reach: float) -> float:
    """Average the losses around one of them; around the last, it is the exponential average of those before."""
    weights = np.exp(-np.abs(np.arange(len(losses)) - i) / reach)
    return float((weights / weights.sum()) @ losses)


def _descent(losses: Array) -> Array:
    """Give the losses up to the lowest; one that is not finite is the last."""
    return losses[: int(np.argmin(np.where(np.isfinite(losses), losses, math.inf))) + 1]


def _steepest(rates: Array, losses: Array, reach: float) -> float | None:
    """Give the rate of the steepest descent, or None where there are too few points before the lowest."""
    descent = _descent(losses)
    if len(descent) < 3:
        return None
    slopes = np.gradient([_smoothed(descent, i, reach) for i in range(len(descent))])
    return float(rates[slopes.argmin()])
