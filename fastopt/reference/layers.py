"""The layers in NumPy, with the bits of `fastopt.layers`, whose docstrings describe the arguments.

Sums have a fixed order, because addition is not associative and their bits must not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from fastopt.reference._common import ROWS, Array, sum_squares
from fastopt.reference._random import words

DROPOUT = 1  # stream of random numbers
BATCH_NORM_BLOCK = 16384  # elements of batch norm that are summed together
DIVISOR = 2.0**540  # of values whose squares could overflow


def dropout(x: Array, p: float = 0.5, *, seed: int, step: int) -> Array:
    """Zero each element with the probability p, and multiply the others by 1 / (1 - p).

    Examples
    --------
    >>> dropout(np.ones(4), 0.25, seed=0, step=0).round(3)
    array([0.   , 1.333, 0.   , 1.333])
    """
    dropped = min(round(p * 2**32), 2**32 - 1)
    keep = words(seed, step, DROPOUT, x.size).reshape(x.shape) >= dropped
    return np.where(keep, x * x.dtype.type(2**32 / (2**32 - dropped)), x.dtype.type(0))


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
    """Return (x - mean) / sqrt(var + eps) * weight + bias, and a cache for the backward pass.

    Examples
    --------
    >>> batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))[0].round(4).ravel()
    array([-1.,  1.])
    """
    flat = x.reshape(-1, x.shape[-1])
    if training:
        divided_mean, squares, divisor = _moments(flat)
        mean, divided = divided_mean * divisor, squares / len(flat)
        variance = divided * divisor * divisor
        if running_mean is not None:
            for running, batch in ((running_mean, mean), (running_var, squares / (len(flat) - 1) * divisor * divisor)):
                running[...] = (1 - momentum) * running.astype(np.float64) + momentum * batch
        overflows = variance > np.finfo(np.float64).max
        inv_std = 1 / np.sqrt(np.where(overflows, divided, variance + eps)) / np.where(overflows, divisor, 1.0)
    else:
        mean, variance = running_mean.astype(np.float64), running_var.astype(np.float64)
        inv_std = 1 / np.sqrt(variance + eps)
    scale = (weight * inv_std).astype(x.dtype)
    y = (x - mean.astype(x.dtype)) * scale + bias
    return y, (x, mean.astype(x.dtype), scale, inv_std, training)


def batch_norm_backward(grad: Array, cache: tuple[Array, Array, Array, Array, bool]) -> tuple[Array, Array, Array]:
    """Return the gradients of x, weight and bias from the gradient of y.

    Examples
    --------
    >>> y, cache = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> [g.round(3).tolist() for g in batch_norm_backward(np.array([[1.0], [0.0]]), cache)[1:]]
    [[-1.0], [1.0]]
    """
    x, mean, scale, inv_std, training = cache
    flat, centered = x.reshape(-1, x.shape[-1]), x - mean
    sums, divisor = _sums_of_blocks(_block_gradients, flat, np.broadcast_to(mean, flat.shape), grad.reshape(flat.shape))
    grad_bias, products = reduce(np.add, sums)
    grad_weight = products * (inv_std * divisor)
    inv_rows = 1 / len(flat) if training else 0.0
    mean_grad = (inv_rows * grad_bias).astype(x.dtype)
    mean_grad_xhat = (inv_rows * grad_weight * inv_std).astype(x.dtype)
    grad_x = scale * (grad - mean_grad - centered * mean_grad_xhat)
    return grad_x, grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)


def l2_penalty(params: Array, lam: float, grads: Any = None) -> float:
    """Return lam times the sum of squares, and add 2 lam W to the gradient.

    Examples
    --------
    >>> l2_penalty(np.array([1.0, -2.0]), 0.1)
    0.5
    """
    total = sum_squares([params])
    if np.isinf(total):
        penalty = lam * sum_squares([params.astype(np.float64) / DIVISOR]) * DIVISOR * DIVISOR
    else:
        penalty = lam * total
    if grads is not None:
        grads += params.dtype.type(2 * lam) * params
    return penalty


def _sum_rows(x: Array) -> Array:
    """Return the sum of the rows: sixteen at a time in the array's dtype, and these sums in float64."""
    sixteens = (reduce(np.add, x[begin : begin + ROWS]) for begin in range(0, len(x), ROWS))
    return sum(sixteens, np.zeros(x.shape[1]))


def _block_moments(x: Array) -> tuple[Array, Array]:
    """Return mean and sum of squared deviations, corrected for the rounding error of the mean (Chan et al., 1983)."""
    mean = (_sum_rows(x) / len(x)).astype(x.dtype)
    deviation = x - mean
    deviation_sum = _sum_rows(deviation)
    error = deviation_sum / len(x)
    return mean.astype(np.float64) + error, _sum_rows(deviation * deviation) - deviation_sum * error


def _block_gradients(x: Array, mean: Array, grad: Array) -> tuple[Array, Array]:
    """Return the sums of the gradient and of its product with x - mean."""
    return _sum_rows(grad), _sum_rows(grad * (x - mean))


def _sums_of_blocks(compute: Callable[..., Any], *arrays: Array) -> tuple[Array, Array]:
    """Return two sums of each block of rows, and what each column of x and its mean was divided by: 1 or DIVISOR.

    Columns whose sums could overflow are divided and computed again in float64. The arrays are x, or x, mean and grad.
    """
    rows = max(1, BATCH_NORM_BLOCK // arrays[0].shape[1])

    def compute_blocks(*arrays: Array) -> Array:
        starts = range(0, len(arrays[0]), rows)
        return np.array([compute(*(array[i : i + rows] for array in arrays)) for i in starts])

    sums = compute_blocks(*arrays)
    large = ~((np.abs(sums[:, 0]) < 2.0**480) & (np.abs(sums[:, 1]) < 2.0**960)).all(axis=0)
    wide = [array[:, large].astype(np.float64) for array in arrays]
    sums[:, :, large] = compute_blocks(*(array / DIVISOR for array in wide[:2]), *wide[2:])
    return sums, np.where(large, DIVISOR, 1.0)


def _moments(x: Array) -> tuple[Array, Array, Array]:
    """Return mean and sum of squared deviations, merged by blocks (Chan et al., 1979), and the divisors of columns."""
    moments, divisor = _sums_of_blocks(_block_moments, x)
    rows = max(1, BATCH_NORM_BLOCK // x.shape[1])
    (mean, squares), *others = moments
    for i, (block_mean, block_squares) in enumerate(others, 1):
        count, block_count = i * rows, min(rows, len(x) - i * rows)
        weight, delta = block_count / (count + block_count), block_mean - mean
        mean = mean + weight * delta
        squares = squares + (block_squares + count * weight * (delta * delta))
    return mean, squares, divisor
