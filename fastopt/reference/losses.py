"""The losses in NumPy, with the bits of `fastopt.losses`, whose docstrings describe the arguments.

Arguments are not checked. Each function computes its formula for each element or row. The order of the additions is
fixed, so that the bits of a sum do not depend on the number of threads: blocks in lanes (`sum_in_lanes`), then in order
(`_sum_in_order`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt.reference._common import BLOCK, ROWS, Array, sum_in_lanes
from fastopt.reference._math import exp, expm1, log, log1p


def mse(x: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Return (x - y)^2 and 2 (x - y).

    Examples
    --------
    >>> mse(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, array([0., 2.]))
    """
    d = x - np.asarray(target, x.dtype)
    return _reduce(d * d, 2 * d, reduction)


def mae(x: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Return abs(x - y) and sign(x - y).

    Examples
    --------
    >>> mae(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (1.0, array([0. , 0.5]))
    """
    d = x - np.asarray(target, x.dtype)
    return _reduce(np.abs(d), np.sign(d), reduction)


def huber(x: Array, target: Array, delta: float = 1.0, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Return d^2 / 2 and d where abs(d) <= delta, elsewhere delta (abs(d) - delta / 2) and delta sign(d).

    Examples
    --------
    >>> huber(np.array([0.5, -4.0]), np.zeros(2), reduction="none")
    (array([0.125, 3.5  ]), array([ 0.5, -1. ]))
    """
    real, d = x.dtype.type, x - np.asarray(target, x.dtype)
    near = np.abs(d) <= real(delta)
    loss = np.where(near, real(0.5) * d * d, real(delta) * (np.abs(d) - real(0.5) * real(delta)))
    return _reduce(loss, np.where(near, d, real(delta) * np.sign(d)), reduction)


def log_cosh(x: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Return log(cosh(d)) and tanh(d).

    The loss is log(1 + (cosh(d) - 1)) where abs(d) < 1, elsewhere abs(d) + log(1 + exp(-2 abs(d))) - log(2).

    Examples
    --------
    >>> value, gradient = log_cosh(np.array([0.0, 1000.0]), np.zeros(2), reduction="none")
    >>> value.round(6), gradient
    (array([  0.      , 999.306853]), array([0., 1.]))
    """
    real, d = x.dtype.type, x - np.asarray(target, x.dtype)
    expm1_d, expm1_2d = expm1(-np.abs(d)), expm1(-2 * np.abs(d))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # only the elements near zero are used
        near = log1p(expm1_d * expm1_d / (2 * (1 + expm1_d)))
    far = np.abs(d) + (log1p(1 + expm1_2d) - real(math.log(2)))
    return _reduce(np.where(np.abs(d) < 1, near, far), (0 - expm1_2d) / (2 + expm1_2d) * np.sign(d), reduction)


def binary_cross_entropy(
    logits: Array, target: Array, *, pos_weight: Any = None, reduction: str = "mean"
) -> tuple[Any, Array]:
    """Return (1 - t) log(1 + e^x) + w t log(1 + e^-x) and (1 - t) sigmoid(x) - w t sigmoid(-x).

    Examples
    --------
    >>> binary_cross_entropy(np.array([0.0, -1e4]), np.array([1.0, 1.0]), reduction="sum")[1]
    array([-0.5, -1. ])
    """
    real, x, target = logits.dtype.type, logits, np.asarray(target, logits.dtype)
    weight = np.asarray(1 if pos_weight is None else pos_weight, real)
    negative, positive = 1 - target, (weight if x.ndim else weight.reshape(())) * target
    softplus = log1p(exp(-np.abs(x)))  # log(1 + e^x) is this plus max(x, 0)
    with np.errstate(invalid="ignore"):
        negative_loss = np.where(negative != 0, negative * (np.where(x > 0, x, real(0)) + softplus), real(0))
        positive_loss = np.where(positive != 0, positive * (np.where(x < 0, -x, real(0)) + softplus), real(0))
    grad = negative * _sigmoid(x) - positive * _sigmoid(-x)
    return _reduce(negative_loss + positive_loss, grad, reduction)


def focal(
    logits: Array, target: Array, gamma: float = 2.0, alpha: float | None = 0.25, *, reduction: str = "mean"
) -> tuple[Any, Array]:
    """Return a u^gamma times the binary cross entropy, where u is the probability of the wrong class, and its gradient.

    Examples
    --------
    >>> focal(np.zeros(2), np.array([1.0, 0.0]), alpha=None, reduction="none")[0].round(6)
    array([0.173287, 0.173287])
    """
    real, x, target = logits.dtype.type, logits, np.asarray(target, logits.dtype)
    entropy, entropy_grad = binary_cross_entropy(x, target, reduction="none")
    p, q = _sigmoid(x), _sigmoid(-x)
    negative = 1 - target
    u = p * negative + q * target
    power = exp(real(gamma) * log(u)) if real(gamma) else np.ones_like(x)
    a = np.ones_like(x) if alpha is None else real(alpha) * target + (1 - real(alpha)) * negative
    with np.errstate(divide="ignore", invalid="ignore"):
        pq = p * q
        power_grad = np.where(pq > 0, real(gamma) * entropy * (pq * (negative - target) / u), real(0))
        loss = np.where(power != 0, a * power * entropy, real(0))
        grad = np.where(power != 0, a * power * (entropy_grad + power_grad), real(0))
    return _reduce(loss, grad, reduction)


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Any, Array]:
    """Return -(sum of t log(softmax(x))) of each row, and (sum of t) softmax(x) - t.

    Here t are the weighted and smoothed targets. A label contributes to a single column and is handled apart from the
    `smooth` part of t, which all columns have.

    Examples
    --------
    >>> value, gradient = cross_entropy(np.array([[1e4, 0.0, -np.inf]]), np.array([1]))
    >>> value, gradient
    (10000.0, array([[ 1., -1.,  0.]]))
    """
    real, columns, target = logits.dtype.type, logits.shape[-1], np.asarray(target)
    x, probabilities = logits.reshape(-1, columns), target.shape == logits.shape
    w = np.broadcast_to(np.asarray(1 if weight is None else weight, real), columns)
    smoothing, rows = real(label_smoothing), np.arange(len(x))
    given = target.astype(real).reshape(x.shape) if probabilities else real(0)
    smooth = np.broadcast_to(w * ((1 - smoothing) * given + smoothing / real(columns)), x.shape)

    centered = x - x.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        dot = sum_in_lanes(np.where(smooth != 0, smooth * centered, real(0)))  # of t and x
    total, counts = sum_in_lanes(smooth), np.ones(len(x), bool)
    if not probabilities:
        counts = target.ravel() != ignore_index
        label = np.where(counts, target.ravel(), 0)
        label_weight = (1 - smoothing) * w[label]
        total = total + label_weight.astype(np.float64)
        with np.errstate(invalid="ignore"):
            dot = dot + np.where(label_weight != 0, label_weight * centered[rows, label], real(0))

    divisor = float(len(x)) if probabilities else float(w.astype(np.float64)[label[counts]].sum())
    mean = 1 / divisor if divisor else math.nan
    factor = real(mean if reduction == "mean" else 1)
    e = exp(centered)
    sums = sum_in_lanes(e, ROWS)
    grad = ((total / sums).astype(real) * factor)[:, None] * e
    if probabilities or smoothing:
        grad = grad - factor * smooth
    if not probabilities:
        grad[rows, label] -= factor * label_weight
    grad = np.where(counts[:, None], grad, real(0)).reshape(logits.shape)

    loss = np.where(counts, total * log(sums) - dot, 0.0)
    if reduction == "none":
        return loss.astype(real).reshape(logits.shape[:-1]), grad
    block = max(1, BLOCK // columns)
    value = _sum_in_order([_sum_in_order(loss[i : i + block]) for i in range(0, len(loss), block)])
    return value * mean if reduction == "mean" else value, grad


def dice(
    x: Array,
    target: Array,
    *,
    from_logits: str | None = "softmax",
    smooth: float = 1.0,
    squared: bool = False,
    per_image: bool = True,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Any, Array]:
    """Return 1 - (2 sum of p q + s) / (sum of p + sum of q + s) for each class, and the gradient with respect to x.

    The sums are over the pixels whose label is not `ignore_index`; the others have gradient 0.

    Examples
    --------
    >>> x = np.array([[[20.0, 0.0], [0.0, 20.0]]])
    >>> value, gradient = dice(x, np.array([[0, 1]]), smooth=0.0)
    >>> round(value, 6), gradient.shape
    (0.0, (1, 2, 2))
    """
    real, classes, target = x.dtype.type, x.shape[-1], np.asarray(target)
    images = x.reshape(len(x), math.prod(x.shape[1:-1]), classes)
    if target.dtype.kind == "f" or (target.shape == x.shape and classes > 1):
        counted, q = np.ones((*images.shape[:2], 1), bool), target.reshape(images.shape).astype(x.dtype)
    else:  # labels; the label of a single class is 1
        label = target.reshape(*images.shape[:2], 1)
        counted = label != ignore_index
        q = (counted & (label == (np.arange(classes) if classes > 1 else 1))).astype(x.dtype)
    if from_logits == "softmax":
        e = exp(images - images.max(axis=-1, keepdims=True))
        p = e * (1 / sum_in_lanes(e, ROWS)).astype(x.dtype)[..., None]
    else:
        p = _sigmoid(images) if from_logits == "sigmoid" else images

    p64, q64 = np.where(counted, p, 0).astype(np.float64), q.astype(np.float64)
    block = max(1, BLOCK // classes)
    sum_pq = _sum_pixels(p64 * q64, block, per_image)
    sum_p = _sum_pixels(p64 * p64 if squared else p64, block, per_image)
    sum_q = _sum_pixels(q64 * q64 if squared else q64, block, per_image)
    numerator, denominator = 2 * sum_pq + smooth, sum_p + sum_q + smooth
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        loss = np.where(denominator == 0, 0.0, 1 - numerator / denominator)
        grad_pq = np.where(denominator == 0, 0.0, -2 / denominator)  # with respect to sum_pq
        grad_p = np.where(denominator == 0, 0.0, numerator / denominator / denominator)  # with respect to sum_p
    mean, limit = (1 / loss.size if loss.size else math.nan) if reduction == "mean" else 1.0, np.finfo(x.dtype).max
    grad_pq, grad_p = (
        np.clip(mean * grad, -limit, limit).astype(x.dtype)[:, None] for grad in (grad_pq, grad_p * (1 + squared))
    )

    grad = grad_pq * q + grad_p * (p if squared else real(1))
    if from_logits == "softmax":
        dot: Array = sum(p[..., k] * grad[..., k] for k in range(classes))
        grad = p * (grad - dot[..., None])
    elif from_logits == "sigmoid":
        grad = p * (1 - p) * grad
    grad = np.where(counted, grad, real(0))
    if reduction == "none":
        return (loss if per_image else loss[0]).astype(x.dtype), grad.reshape(x.shape)
    return _sum_in_order(loss.ravel()) * mean, grad.reshape(x.shape)


def _sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e^-x) without overflow."""
    e = exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _reduce(loss: Array, grad: Array, reduction: str) -> tuple[Any, Array]:
    """Return the loss by elements, or its sum or mean, and the gradient of that."""
    if reduction == "none":
        return loss, loss.dtype.type(1) * grad
    value = _sum_in_order([sum_in_lanes(loss.ravel()[i : i + BLOCK]) for i in range(0, loss.size, BLOCK)])
    if reduction == "sum":
        return value, grad
    mean = 1 / loss.size if loss.size else math.nan
    return value * mean, loss.dtype.type(mean) * grad


def _sum_in_order(x: Any) -> float:
    """Return the sum in float64, one addition after the other."""
    return float(np.add.accumulate([0.0, *x])[-1])


def _sum_pixels(x: Array, block: int, per_image: bool) -> Array:
    """Return the sums over the pixels by image, or over all images, and by class: blocks in lanes, then in order."""
    sums = np.zeros((len(x) if per_image else 1, x.shape[-1]))
    for i, image in enumerate(x):
        for begin in range(0, len(image), block):
            sums[i if per_image else 0] += sum_in_lanes(image[begin : begin + block].T)
    return sums
