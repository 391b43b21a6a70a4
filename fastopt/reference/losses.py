"""The losses: values and gradients, with the signatures of ``fastopt.losses``, which says what they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.reference._math import (
    RUN,
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
    rest = logarithm_of_one_plus(exponential(-np.abs(x)))
    weight = np.asarray(1 if pos_weight is None else pos_weight, real)
    negative, positive = 1 - target, (weight if x.ndim else weight.reshape(())) * target
    with np.errstate(invalid="ignore"):
        of_negative = np.where(negative != 0, negative * (np.where(x > 0, x, real(0)) + rest), real(0))
        of_positive = np.where(positive != 0, positive * (np.where(x < 0, -x, real(0)) + rest), real(0))
    slope = negative * _sigmoid(x) - positive * _sigmoid(-x)
    return _reduced(of_negative + of_positive, slope, reduction)


def focal(
    logits: Array, target: Array, gamma: float = 2.0, alpha: float | None = 0.25, *, reduction: str = "mean"
) -> tuple[Any, Array]:
    """Give a u^gamma times the binary cross entropy, and its gradient.

    >>> focal(np.zeros(2), np.array([1.0, 0.0]), alpha=None, reduction="none")[0].round(6)
    array([0.173287, 0.173287])
    """
    real, x = logits.dtype.type, logits
    entropy, slope = binary_cross_entropy(x, target, reduction="none")
    p, rest = _sigmoid(x), _sigmoid(-x)
    negative = 1 - target
    wrong = p * negative + rest * target
    power = exponential(real(gamma) * logarithm(wrong)) if real(gamma) else np.ones_like(x)
    balance = np.ones_like(x) if alpha is None else real(alpha) * target + (1 - real(alpha)) * negative
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = p * rest
        turn = np.where(spread > 0, real(gamma) * entropy * (spread * (negative - target) / wrong), real(0))
        value = np.where(power != 0, balance * power * entropy, real(0))
        slope = np.where(power != 0, balance * power * (slope + turn), real(0))
    return _reduced(value, slope, reduction)


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
    sums = sum_in_lanes(e, RUN)
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


def dice(
    x: Array,
    target: Array,
    *,
    from_logits: str | None = "softmax",
    smooth: float = 1.0,
    squared: bool = False,
    per_image: bool = True,
    reduction: str = "mean",
) -> tuple[Any, Array]:
    """Give 1 - (2 sum of p q + s) / (sum of p + sum of q + s) for each class, and the gradient with respect to x.

    >>> x = np.array([[[20.0, 0.0], [0.0, 20.0]]])
    >>> value, gradient = dice(x, np.array([[0, 1]]), smooth=0.0)
    >>> round(value, 6), gradient.shape
    (0.0, (1, 2, 2))
    """
    real, classes = x.dtype.type, x.shape[-1]
    images = x.reshape(len(x), math.prod(x.shape[1:-1]), classes)
    soft = target.dtype.kind == "f"
    q = (target.reshape(images.shape) if soft else target.reshape(*images.shape[:2], 1) == np.arange(classes)).astype(
        x.dtype
    )
    if from_logits == "softmax":
        e = exponential(images - images.max(axis=-1, keepdims=True))
        p = e * (1 / sum_in_lanes(e, RUN)).astype(x.dtype)[..., None]
    else:
        p = _sigmoid(images) if from_logits == "sigmoid" else images
    u, v = p.astype(np.float64), q.astype(np.float64)
    both, predicted, wanted = (
        _of_pieces(sums, max(1, GRAIN // classes), per_image)
        for sums in (u * v, u * u if squared else u, v * v if squared else v)
    )
    above, below = 2 * both + smooth, predicted + wanted + smooth
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        value = np.where(below == 0, 0.0, 1 - above / below)
        of_truth, rest = np.where(below == 0, 0.0, -2 / below), np.where(below == 0, 0.0, above / below / below)
    share, most = (1 / value.size if value.size else math.nan) if reduction == "mean" else 1.0, np.finfo(x.dtype).max
    of_truth, rest = (
        np.clip(share * slope, -most, most).astype(x.dtype)[:, None]
        for slope in (of_truth, rest * (2 if squared else 1))
    )
    slope = of_truth * q + rest * (p if squared else real(1))
    if from_logits == "softmax":
        product = np.zeros_like(p[..., 0])
        for k in range(classes):
            product = product + p[..., k] * slope[..., k]
        slope = p * (slope - product[..., None])
    elif from_logits == "sigmoid":
        slope = p * (1 - p) * slope
    if reduction == "none":
        return (value if per_image else value[0]).astype(x.dtype), slope.reshape(x.shape)
    return float(np.add.accumulate([0.0, *value.ravel()])[-1]) * share, slope.reshape(x.shape)


def _sigmoid(x: Array) -> Array:
    e = exponential(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _of_pieces(values: Array, piece: int, per_image: bool) -> Array:
    """Sum over the pixels of each image, or of all: pieces in lanes, and one behind the other."""
    images = np.zeros((len(values), values.shape[-1]))
    whole = np.zeros((1, values.shape[-1]))
    for i, image in enumerate(values):
        for begin in range(0, len(image), piece):
            part = sum_in_lanes(image[begin : begin + piece].T)
            images[i] += part
            whole += part
    return images if per_image else whole


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
