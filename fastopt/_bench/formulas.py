"""Compare the first three steps of a candidate with the formula, on the elements that its worker has sampled.

The update of one element does not depend on the others, so ``fastopt.reference`` is applied to the samples only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastopt import reference
from fastopt._util.arrays import Array


def ulp_distance(actual: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return the largest difference of two lists of arrays, in units in the last place of max(1, abs(expected))."""
    pairs = zip(actual, expected, strict=True)
    errors = [np.abs(a.astype(np.float64) - e) / np.maximum(1, np.abs(e)) for a, e in pairs]
    return float(np.max([error.max() for error in errors])) / float(np.finfo(np.float32).eps)  # NaN if any is NaN


def plain_steps(
    params: list[Array], grads: list[Array], rule: str, options: list[dict[str, Any]], after: list[Array]
) -> float:
    """Apply ``reference.sgd``, ``reference.adagrad`` or ``reference.adam``; ``options`` are those of each step."""
    states = [[np.zeros_like(p) for _ in range({"sgd": 0, "adagrad": 1, "adam": 2}[rule])] for p in params]
    for step, option in enumerate(options, start=1):
        for param, grad, state in zip(params, grads, states, strict=True):
            getattr(reference, rule)(param, grad, *state, step=step, **option)
    return ulp_distance(after, params)


def whole_step(
    params: list[Array],
    grads: list[Array],
    scale: float,
    weight_decay: float,
    decay: float,
    after: list[Array],
    averages: list[Array],
    zeroed: bool,
) -> float:
    """Clip with a known norm, then AdamW, weight average and zeroing."""
    emas = [param.copy() for param in params]
    states = [(np.zeros_like(p), np.zeros_like(p)) for p in params]
    options: dict[str, Any] = {"scale": scale, "weight_decay": weight_decay, "decoupled_weight_decay": True}
    for step in (1, 2, 3):
        for param, grad, state, ema in zip(params, grads, states, emas, strict=True):
            reference.adam(param, grad, *state, step=step, **options)
            reference.ema(ema, param, decay=decay)
    return float(np.max([ulp_distance(after, params), ulp_distance(averages, emas)])) if zeroed else np.inf


def deviation(checked: Any) -> tuple[float, float]:
    """Return (deviation, limit) in units in the last place for the result of a workload's ``check()``.

    ``checked`` is a bool, whether the result is right, or (limit, arguments of one of the formulas above).
    """
    if isinstance(checked, bool):
        return (0 if checked else np.inf), 0
    limit, arguments = checked
    formula: Any = whole_step if "averages" in arguments else plain_steps
    return formula(**arguments), limit
