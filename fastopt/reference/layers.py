"""The layers, with the signatures of ``fastopt.layers``, which says what they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt.reference._math import RUN, Array, sum_in_lanes
from fastopt.reference._random import words

DROPOUT = 1  # the stream of its random numbers
GRAIN, PART = 4096, 16384  # elements that are summed together: of the penalty, of batch norm


def dropout(x: Array, p: float = 0.5, *, seed: int, step: int) -> Array:
    """Zero each element with the probability p, and multiply the others by 1 / (1 - p).

    >>> dropout(np.ones(4), 0.25, seed=0, step=0).round(3)
    array([0.   , 1.333, 0.   , 1.333])
    """
    dropped = min(round(p * 2**32), 2**32 - 1)
    keep = words(seed, step, DROPOUT, x.size).reshape(x.shape) >= dropped
    result: Array = np.where(keep, x * x.dtype.type(2**32 / (2**32 - dropped)), x.dtype.type(0))
    return result


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Any = None,
    running_var: Any = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, tuple[Array, Array, Array, Array, bool]]:
    """Give (x - mean) / sqrt(var + eps) * weight + bias, and what the backward pass needs.

    >>> batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))[0].round(4).ravel()
    array([-1.,  1.])
    """
    flat = x.reshape(-1, x.shape[-1])
    if training:
        mean, squares = _moments(flat)
        variance = squares / len(flat)
        if running_mean is not None:
            for running, now in ((running_mean, mean), (running_var, squares / (len(flat) - 1))):
                running[...] = (1 - momentum) * running.astype(np.float64) + momentum * now
    else:
        mean, variance = running_mean.astype(np.float64), running_var.astype(np.float64)
    inverse_std = 1 / np.sqrt(variance + eps)
    scale = (weight * inverse_std).astype(x.dtype)
    y = (x - mean.astype(x.dtype)) * scale + bias
    return y, (x, mean.astype(x.dtype), scale, inverse_std, training)


def batch_norm_backward(grad: Array, saved: tuple[Array, Array, Array, Array, bool]) -> tuple[Array, Array, Array]:
    """Give the gradients of x, weight and bias from that of y.

    >>> y, saved = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> [part.round(3).tolist() for part in batch_norm_backward(np.array([[1.0], [0.0]]), saved)[1:]]
    [[-1.0], [1.0]]
    """
    x, mean, scale, inverse_std, training = saved
    centered = x - mean
    flat = x.reshape(-1, x.shape[-1])
    of_bias, product = (_in_parts(a.reshape(flat.shape)) for a in (grad, grad * centered))
    of_weight = product * inverse_std
    over = 1 / len(flat) if training else 0.0
    a, b = (over * of_bias).astype(x.dtype), (over * of_weight * inverse_std).astype(x.dtype)
    return scale * (grad - a - centered * b), of_weight.astype(x.dtype), of_bias.astype(x.dtype)


def l2_penalty(params: Array, lam: float, grads: Any = None) -> float:
    """Give lam times the sum of squares, and add 2 lam W to the gradient.

    >>> l2_penalty(np.array([1.0, -2.0]), 0.1)
    0.5
    """
    x, total = params.astype(np.float64).ravel(), 0.0
    for begin in range(0, x.size, GRAIN):
        total += float(sum_in_lanes(x[begin : begin + GRAIN] ** 2))
    if grads is not None:
        grads += params.dtype.type(2 * lam) * params
    return lam * total


def _parts(x: Array) -> list[Array]:
    grain = max(1, PART // x.shape[1])
    return [x[begin : begin + grain] for begin in range(0, len(x), grain)]


def _in_runs(x: Array) -> Array:
    """Sum rows in their order: sixteen in the type itself, and these sums in float64."""
    total: Array = np.zeros(x.shape[1])
    for begin in range(0, len(x), RUN):
        run = np.zeros(x.shape[1], x.dtype)
        for row in x[begin : begin + RUN]:
            run = run + row
        total = total + run
    return total


def _in_parts(x: Array) -> Array:
    sums = [_in_runs(part) for part in _parts(x)]
    total = sums[0]
    for part in sums[1:]:
        total = total + part
    return total


def _of_part(x: Array) -> tuple[Array, Array]:
    """Give mean and sum of squared differences, corrected by what the rounded mean is off (1983)."""
    mean = (_in_runs(x) / len(x)).astype(x.dtype)
    d = x - mean
    rest = _in_runs(d)
    off = rest / len(x)
    return mean.astype(np.float64) + off, _in_runs(d * d) - rest * off


def _moments(x: Array) -> tuple[Array, Array]:
    """Give mean and sum of squared differences: of parts, then joined (Chan, Golub and LeVeque 1979)."""
    first, *others = _parts(x)
    (mean, square), so_far = _of_part(first), len(first)
    for part in others:
        of_part, of_squares = _of_part(part)
        share, d = len(part) / (so_far + len(part)), of_part - mean
        mean = mean + share * d
        square = square + (of_squares + so_far * share * (d * d))
        so_far += len(part)
    return mean, square
