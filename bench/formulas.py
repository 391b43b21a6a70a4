"""How far three steps of a candidate are from the formula, on the elements that its room has sampled.

An update of one element does not depend on the others, so ``fastopt.reference`` computes just these.
"""

from __future__ import annotations

import numpy as np

from fastopt import reference


def distance(got, wanted):
    """The largest difference, in units in the last place of max(1, |x|)."""
    pairs = zip(got, wanted, strict=True)
    worst = [np.abs(g.astype(np.float64) - w) / np.maximum(1, np.abs(w)) for g, w in pairs]
    return float(np.max([w.max() for w in worst])) / float(np.finfo(np.float32).eps)  # NaN if one is


def sgd_steps(params, grads, lr, after):
    """SGD."""
    for step in (1, 2, 3):
        for param, grad in zip(params, grads, strict=True):
            reference.sgd(param, grad, step=step, lr=lr)
    return distance(after, params)


def steps(params, grads, epsilons, after):
    """Adam."""
    states = [(np.zeros_like(p), np.zeros_like(p)) for p in params]
    for step, eps in enumerate(epsilons, start=1):
        for param, grad, state in zip(params, grads, states, strict=True):
            reference.adam(param, grad, *state, step=step, eps=eps)
    return distance(after, params)


def whole_pass(params, grads, scale, weight_decay, decay, after, averages, left):
    """Clip, AdamW, average, zero; the norm is known."""
    emas = [param.copy() for param in params]
    states = [(np.zeros_like(p), np.zeros_like(p)) for p in params]
    options = {"scale": scale, "weight_decay": weight_decay, "decoupled_weight_decay": True}
    for step in (1, 2, 3):
        for param, grad, state, ema in zip(params, grads, states, emas, strict=True):
            reference.adam(param, grad, *state, step=step, **options)
            reference.ema(ema, param, decay=decay)
    return float(np.max([distance(after, params), distance(averages, emas)])) if left == 0 else np.inf


def deviation(checked):
    """Give it for what a job's ``check`` gave: numbers for one of these formulas, or whether all bits are equal."""
    if isinstance(checked, bool):
        return 0 if checked else np.inf
    formula = whole_pass if "averages" in checked else sgd_steps if "lr" in checked else steps
    return formula(**checked)
