"""Losses of classes, from logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt import _core
from fastopt._util.arrays import Array, aligned_zeros, as_numeric_array, check_array, check_representable, output_like
from fastopt._util.validation import fraction, integer, non_negative
from fastopt.losses._common import (
    LossAndGradient,
    Reduction,
    check_reduction,
    class_target,
    elementwise_loss,
    reciprocal,
)

check_ignore_index = integer("an int from -2**63 to 2**63 - 1", -(2**63), 63)


def binary_cross_entropy(
    logits: Array,
    target: Array,
    *,
    pos_weight: float | Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGradient:
    r"""Compute the cross entropy of two classes and its gradient, from logits.

    .. math::

        L = w\, t \log(1 + e^{-x}) + (1 - t) \log(1 + e^x), \qquad
        \frac{\partial L}{\partial x} = (1 - t)\, \sigma(x) - w\, t\, \sigma(-x)

    Parameters
    ----------
    logits : ndarray of float32 or float64, any shape
        Predictions x, C-contiguous: the probability of the positive class is :math:`\sigma(x)`.
    target : ndarray
        Probability t of the positive class, in [0, 1], with the shape and dtype of ``logits``. The range is not
        checked.
    pos_weight : float or array-like of shape (C,), optional
        Weight w >= 0 of the positive class, one for all elements or one for each index of the last axis. Default 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        Array for the gradient, with the shape and dtype of ``logits``. It may be ``logits`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``logits`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``logits``.

    Raises
    ------
    TypeError
        If an array is not of float32 or float64, or the dtypes differ.
    ValueError
        If the shapes differ, ``pos_weight`` is out of range, or ``out`` overlaps ``target`` or a part of ``logits``.

    Notes
    -----
    The same as ``torch.nn.functional.binary_cross_entropy_with_logits``, without its ``weight``.

    Examples
    --------
    >>> import numpy as np
    >>> binary_cross_entropy(np.array([0.0, -1e4]), np.array([1.0, 1.0]), reduction="sum")[1]
    array([-0.5, -1. ])
    """
    dtype = check_array("logits", logits, writable=False)
    weight, columns = None, 1
    if pos_weight is not None:
        columns = logits.shape[-1] if logits.ndim else 1
        weight = _class_weights("pos_weight", pos_weight, columns, dtype)
    arguments = {"pos_weight": weight, "columns": columns}
    return elementwise_loss("binary_cross_entropy", logits, target, reduction, out, name="logits", **arguments)


def focal(
    logits: Array,
    target: Array,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    *,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGradient:
    r"""Compute the focal loss of two classes [1]_ and its gradient, from logits.

    With :math:`p = \sigma(x)`, the probability of an error :math:`u = p (1 - t) + (1 - p)\, t`, the class weight
    :math:`a = \alpha t + (1 - \alpha)(1 - t)` and the binary cross entropy :math:`H`,

    .. math::

        L = a\, u^\gamma H, \qquad
        \frac{\partial L}{\partial x} = a\, u^\gamma \left(p - t + \gamma H p\, (1 - p) (1 - 2 t) / u\right)

    The factor :math:`u^\gamma` reduces the loss of examples that are already classified correctly.

    Parameters
    ----------
    logits : ndarray of float32 or float64, any shape
        Predictions x, C-contiguous.
    target : ndarray
        Probability t of the positive class, in [0, 1], with the shape and dtype of ``logits``. The range is not
        checked.
    gamma : float, default 2.0
        Exponent, >= 0. 0 is the (weighted) binary cross entropy.
    alpha : float or None, default 0.25
        Weight of the positive class, in [0, 1]; the negative class has 1 - alpha. None: both have 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        Array for the gradient, with the shape and dtype of ``logits``. It may be ``logits`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``logits`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``logits``.

    Raises
    ------
    TypeError
        If an array is not of float32 or float64, or the dtypes differ.
    ValueError
        If the shapes differ, ``gamma`` or ``alpha`` is out of range, or ``out`` overlaps ``target`` or a part of
        ``logits``.

    Notes
    -----
    The same as ``torchvision.ops.sigmoid_focal_loss``, whose default ``reduction`` is ``"none"`` and where a negative
    ``alpha`` stands for None.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. arXiv:1708.02002

    Examples
    --------
    >>> import numpy as np
    >>> focal(np.zeros(2), np.array([1.0, 0.0]), alpha=None, reduction="none")[0].round(6)
    array([0.173287, 0.173287])
    """
    gamma = check_representable("gamma", non_negative("gamma", gamma), check_array("logits", logits, writable=False))
    balance = -1.0 if alpha is None else fraction("alpha", alpha)
    return elementwise_loss("focal", logits, target, reduction, out, name="logits", gamma=gamma, alpha=balance)


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    weight: float | Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGradient:
    r"""Compute the cross entropy of C classes and its gradient, from logits.

    For each row x of logits,

    .. math::

        L = -\sum_c t_c \log \operatorname{softmax}(x)_c, \qquad
        \frac{\partial L}{\partial x} = \Big(\sum_c t_c\Big) \operatorname{softmax}(x) - t, \qquad
        t_c = w_c \left((1 - s)\, q_c + s / C\right)

    where q is the one-hot label or the row of probabilities, w the class weights and s the label smoothing.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (..., C)
        Predictions, C-contiguous, with at least one class.
    target : array-like of int, shape (...), or ndarray, shape (..., C)
        Labels in [0, C), or probabilities q with the dtype of ``logits``. Probabilities are not checked.
    weight : float or array-like of shape (C,), optional
        Weight w of each class, >= 0, or of all classes. Default 1.
    ignore_index : int, default -100
        Rows with this label have no loss and no gradient, and are not counted. From -2**63 to 2**63 - 1.
    label_smoothing : float, default 0.0
        Part s of the target that is spread over all classes, in [0, 1].
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all rows, or each loss. For the mean, value and gradient are divided
        by the sum of the weights of the labels, or with probabilities by the number of rows.
    out : ndarray, optional
        Array for the gradient, with the shape and dtype of ``logits``. It may be ``logits`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array of shape (...) for ``reduction="none"``. The mean of no rows is NaN.
    gradient : ndarray
        Gradient with respect to ``logits``.

    Raises
    ------
    TypeError
        If ``logits`` is not an array of float32 or float64, or ``target`` has neither integers nor its dtype.
    ValueError
        If a shape is wrong, a number is out of range, or ``out`` overlaps ``target`` or a part of ``logits``.
    IndexError
        If a label is neither in [0, C) nor ``ignore_index``.

    Notes
    -----
    The same as ``torch.nn.functional.cross_entropy``, except that classes are the last axis, not the second. The
    maximum is subtracted from each row, so that large logits don't overflow.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy(np.array([[1e4, 0.0, -np.inf]]), np.array([1]))
    (10000.0, array([[ 1., -1.,  0.]]))
    """
    dtype = check_array("logits", logits, writable=False)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., C) with at least one class, got {logits.shape}")
    columns, rows = logits.shape[-1], logits.shape[:-1]
    ignore_index = check_ignore_index("ignore_index", ignore_index)
    smoothing, mode = fraction("label_smoothing", label_smoothing), check_reduction("reduction", reduction)
    weights = None if weight is None else _class_weights("weight", weight, columns, dtype)
    probabilities, labels, counted = class_target(target, logits, "logits", ignore_index)
    divisor = float(counted)
    if labels is not None and weights is not None:
        divisor = float(weights.astype(np.float64)[labels[labels != ignore_index]].sum())
        check_representable("1 / the sum of the weights of all labels", reciprocal(divisor), dtype)
    grad = output_like(out, logits, "logits", {"target": probabilities if labels is None else labels})
    values = aligned_zeros(rows, dtype) if mode == "none" else None
    arguments = {
        "x": logits,
        "target": probabilities,
        "grad": grad,
        "values": values,
        "label": labels,
        "weight": weights,
        "factor": reciprocal(divisor) if mode == "mean" else 1.0,
        "columns": columns,
        "label_smoothing": smoothing,
        "ignore_index": ignore_index,
    }
    count = math.prod(rows)
    total = _core.run("cross_entropy", arguments, count, max(1, _core.CHUNK // columns), logits.size)
    return (total * reciprocal(divisor) if mode == "mean" else total if values is None else values), grad


def _class_weights(name: str, value: Any, classes: int, dtype: np.dtype[Any]) -> Array:
    """Return the weights of the classes as a new array in the dtype of the logits."""
    weights = as_numeric_array(name, value, "fiu", "numbers >= 0").astype(np.float64)
    if weights.shape not in {(), (classes,)}:
        raise ValueError(f"{name} must have shape ({classes},), got {weights.shape}")
    if not ((weights >= 0) & (weights <= np.finfo(dtype).max)).all():
        raise ValueError(f"{name} must be numbers >= 0 within the range of {dtype}, got {value!r}")
    return np.ascontiguousarray(np.broadcast_to(weights, (classes,)), dtype)
