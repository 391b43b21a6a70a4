"""The losses: values and gradients, with the signatures of ``fastopt.losses``, which says what they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.reference.numerics import (
    Array,
    exponential,
    exponential_minus_one,
    logarithm,
    logarithm_of_one_plus,
    sum_in_lanes,
)

GRAIN = 4096  # elements whose values are summed together


def mse(x: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Give (x - y)^2 and 2 (x - y).

    >>> mse(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, array([0., 2.]))
    """
    d = x - target
    return _reduced(d * d, 2 * d, reduction)


def mae(x: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Give |x - y| and sign(x - y).

    >>> mae(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (1.0, array([0. , 0.5]))
    """
    d = x - target
    return _reduced(np.abs(d), np.sign(d), reduction)


def huber(x: Array, target: Array, delta: float = 1.0, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Give d^2 / 2 and d where |d| <= delta, elsewhere delta (|d| - delta / 2) and delta sign(d).

    >>> huber(np.array([0.5, -4.0]), np.zeros(2), reduction="none")
    (array([0.125, 3.5  ]), array([ 0.5, -1. ]))
    """
    real, d = x.dtype.type, x - target
    near = np.abs(d) <= real(delta)
    value = np.where(near, real(0.5) * d * d, real(delta) * (np.abs(d) - real(0.5) * real(delta)))
    return _reduced(value, np.where(near, d, real(delta) * np.sign(d)), reduction)


def log_cosh(x: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Give log(cosh(d)) and tanh(d): near zero as log(1 + (cosh(d) - 1)), far as |d| + log(1 + exp(-2 |d|)) - log(2).

    >>> value, gradient = log_cosh(np.array([0.0, 1000.0]), np.zeros(2), reduction="none")
    >>> value.round(6), gradient
    (array([  0.      , 999.306853]), array([0., 1.]))
    """
    real, d = x.dtype.type, x - target
    once, twice = exponential_minus_one(-np.abs(d)), exponential_minus_one(-2 * np.abs(d))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # where it is far
        near = logarithm_of_one_plus(once * once / (2 * (1 + once)))
    far = np.abs(d) + (logarithm_of_one_plus(1 + twice) - real(math.log(2)))
    return _reduced(np.where(np.abs(d) < 1, near, far), (0 - twice) / (2 + twice) * np.sign(d), reduction)


def binary_cross_entropy(
    logits: Array, target: Array, *, pos_weight: Any = None, reduction: str = "mean"
) -> tuple[Any, Array]:
    """Give (1 - t) log(1 + e^x) + w t log(1 + e^-x) and (1 - t) sigmoid(x) - w t sigmoid(-x).

    >>> binary_cross_entropy(np.array([0.0, -1e4]), np.array([1.0, 1.0]), reduction="sum")[1]
    array([-0.5, -1. ])
    """
    real, x = logits.dtype.type, logits
    e = exponential(-np.abs(x))
    rest, larger, smaller = logarithm_of_one_plus(e), 1 / (1 + e), e / (1 + e)
    negative, positive = 1 - target, np.asarray(1 if pos_weight is None else pos_weight, real) * target
    with np.errstate(invalid="ignore"):
        of_negative = np.where(negative != 0, negative * (np.where(x > 0, x, real(0)) + rest), real(0))
        of_positive = np.where(positive != 0, positive * (np.where(x < 0, -x, real(0)) + rest), real(0))
    slope = negative * np.where(x >= 0, larger, smaller) - positive * np.where(x >= 0, smaller, larger)
    return _reduced(of_negative + of_positive, slope, reduction)


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Any, Array]:
    """Give -sum of t log(softmax(x)) of each row, and (sum of t) softmax(x) - t.

    >>> value, gradient = cross_entropy(np.array([[1e4, 0.0, -np.inf]]), np.array([1]))
    >>> value, gradient
    (10000.0, array([[ 1., -1.,  0.]]))
    """
    real, columns = logits.dtype.type, logits.shape[-1]
    x, soft = logits.reshape(-1, columns), target.dtype.kind == "f"
    w = np.broadcast_to(np.asarray(1 if weight is None else weight, real), columns)
    smoothing, rows = real(label_smoothing), np.arange(len(x))
    spread = smoothing / real(columns)
    centered = x - x.max(axis=1, keepdims=True)
    share = w * ((1 - smoothing) * target.reshape(x.shape) + spread) if soft else np.broadcast_to(w * spread, x.shape)
    with np.errstate(invalid="ignore"):
        product = sum_in_lanes(np.where(share != 0, share * centered, real(0)))
    total, counts = sum_in_lanes(share), np.ones(len(x), bool)
    if not soft:
        counts = target.ravel() != ignore_index
        label = np.where(counts, target.ravel(), 0)
        of_label = (1 - smoothing) * w[label]
        total = total + of_label.astype(np.float64)
        with np.errstate(invalid="ignore"):
            product = product + np.where(of_label != 0, of_label * centered[rows, label], real(0))
    divisor = float(len(x)) if soft else float(w.astype(np.float64)[label[counts]].sum())
    factor = real((1 / divisor if divisor else math.nan) if reduction == "mean" else 1)
    e = exponential(centered)
    sums = sum_in_lanes(e)
    gradient = ((total / sums).astype(real) * factor)[:, None] * e
    if soft or smoothing:
        gradient = gradient - factor * share
    if not soft:
        gradient[rows, label] -= factor * of_label
    values = np.where(counts, total * logarithm(sums) - product, 0.0)
    gradient = np.where(counts[:, None], gradient, real(0)).reshape(logits.shape)
    if reduction == "none":
        return values.astype(real).reshape(logits.shape[:-1]), gradient
    value = _in_order(values, max(1, GRAIN // columns), np.add.accumulate)
    return value * (1 / divisor if divisor else math.nan) if reduction == "mean" else value, gradient


def _reduced(values: Array, slopes: Array, reduction: str) -> tuple[Any, Array]:
    if reduction == "none":
        return values, values.dtype.type(1) * slopes
    total = _in_order(values.ravel(), GRAIN, None)
    if reduction == "sum":
        return total, slopes
    factor = 1 / values.size if values.size else math.nan
    return total * factor, values.dtype.type(factor) * slopes


def _in_order(values: Array, grain: int, accumulate: Callable[..., Array] | None) -> float:
    """Sum parts of so many values, in lanes or one behind the other, and then the parts in their order."""
    total = 0.0
    for begin in range(0, len(values), grain):
        part = values[begin : begin + grain]
        total += float(sum_in_lanes(part) if accumulate is None else accumulate(part)[-1])
    return total
