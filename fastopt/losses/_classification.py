"""Losses of classes, from logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastopt import _core
from fastopt._util.arrays import Array, aligned_zeros, as_numeric_array, as_real, check_representable, output_like
from fastopt._util.validation import fraction, non_negative
from fastopt.losses._common import (
    LossAndGradient,
    Reduction,
    check_ignore_index,
    check_reduction,
    class_target,
    elementwise_loss,
    reciprocal,
    run,
)


def binary_cross_entropy(
    logits: Array,
    target: npt.ArrayLike,
    *,
    pos_weight: npt.ArrayLike | None = None,
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
        Predictions x: the probability of the positive class is :math:`\sigma(x)`.
    target : array-like of real numbers or booleans
        Probability t of the positive class, in [0, 1], with the shape of ``logits``.
    pos_weight : float or array-like of shape (C,), optional
        Weight w >= 0 of the positive class, one for all elements or one for each index of the last axis. Default 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        C-contiguous array for the gradient, with the shape and dtype of ``logits``. It may be ``logits`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``logits`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``logits``.

    Raises
    ------
    TypeError
        If ``logits`` is not an array of float32 or float64, ``out`` has another dtype, or ``target`` is not numeric.
    ValueError
        If the shapes differ, ``target`` or ``pos_weight`` is out of range, or ``out`` overlaps ``target`` or a part of
        ``logits``.

    Notes
    -----
    Inputs are copied if they are not C-contiguous, ``target`` also if it has another dtype than ``logits``.

    The same as ``torch.nn.functional.binary_cross_entropy_with_logits`` without ``weight``. PyTorch does not check the
    range of the target, and returns NaN for infinite logits, where this returns the limit.

    Examples
    --------
    >>> import numpy as np
    >>> binary_cross_entropy(np.array([0.0, -1e4]), np.array([1.0, 1.0]), reduction="sum")[1]
    array([-0.5, -1. ])
    """
    logits = as_real("logits", logits)
    weight, columns = None, 1
    if pos_weight is not None:
        columns = logits.shape[-1] if logits.ndim else 1
        weight = _class_weights("pos_weight", pos_weight, columns, logits.dtype)
    arguments = {"pos_weight": weight, "columns": columns}
    return elementwise_loss("binary_cross_entropy", logits, target, reduction, out, is_probability=True, **arguments)


def focal(
    logits: Array,
    target: npt.ArrayLike,
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
        Predictions x.
    target : array-like of real numbers or booleans
        Probability t of the positive class, in [0, 1], with the shape of ``logits``.
    gamma : float, default 2.0
        Exponent, >= 0. 0 is the (weighted) binary cross entropy.
    alpha : float or None, default 0.25
        Weight of the positive class, in [0, 1]; the negative class has 1 - alpha. None: both have 1.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        C-contiguous array for the gradient, with the shape and dtype of ``logits``. It may be ``logits`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``logits`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``logits``.

    Raises
    ------
    TypeError
        If ``logits`` is not an array of float32 or float64, ``out`` has another dtype, or ``target`` is not numeric.
    ValueError
        If the shapes differ, ``target``, ``gamma`` or ``alpha`` is out of range, or ``out`` overlaps ``target`` or a
        part of ``logits``.

    Notes
    -----
    Inputs are copied if they are not C-contiguous, ``target`` also if it has another dtype than ``logits``.

    The same as ``torchvision.ops.sigmoid_focal_loss``, whose default ``reduction`` is ``"none"`` and where a negative
    ``alpha`` stands for None. It does not check the range of the target, and its gradient can be NaN for infinite
    logits or, with ``gamma`` below 1, large ones, where this returns the limit.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. arXiv:1708.02002

    Examples
    --------
    >>> import numpy as np
    >>> focal(np.zeros(2), np.array([1.0, 0.0]), alpha=None, reduction="none")[0].round(6)
    array([0.173287, 0.173287])
    """
    logits = as_real("logits", logits)
    gamma = check_representable("gamma", non_negative("gamma", gamma), logits.dtype)
    balance = -1.0 if alpha is None else fraction("alpha", alpha)
    arguments = {"gamma": gamma, "alpha": balance}
    return elementwise_loss("focal", logits, target, reduction, out, is_probability=True, **arguments)


def cross_entropy(
    logits: Array,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
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
        Predictions, with at least one class.
    target : array-like of int, shape (...), or of real numbers, shape (..., C)
        Labels in [0, C), or probabilities q in [0, 1], whose sum is not checked. Labels of two classes may be booleans.
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
        C-contiguous array for the gradient, with the shape and dtype of ``logits``. It may be ``logits`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array of shape (...) for ``reduction="none"``. The mean of no rows is NaN.
    gradient : ndarray
        Gradient with respect to ``logits``.

    Raises
    ------
    TypeError
        If ``logits`` is not an array of float32 or float64, ``out`` has another dtype, or labels are not integers.
    ValueError
        If a shape is wrong, a number is out of range, or ``out`` overlaps ``target`` or a part of ``logits``.
    IndexError
        If a label is neither in [0, C) nor ``ignore_index``.

    Notes
    -----
    The same as ``torch.nn.functional.cross_entropy``, except that classes are the last axis, not the second. PyTorch
    does not check the range of probabilities, and returns NaN where a logit of -infinity meets a probability or weight
    of 0, which here adds nothing. The maximum is subtracted from each row, so that large logits don't overflow.

    With one class, loss and gradient are 0, as in PyTorch. For two classes with one logit, use `binary_cross_entropy`.

    Inputs are copied if they are not C-contiguous, probabilities also if they have another dtype than ``logits``, and
    labels if they are not of int64.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy(np.array([[1e4, 0.0, -np.inf]]), np.array([1]))
    (10000.0, array([[ 1., -1.,  0.]]))
    """
    logits = as_real("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., C) with at least one class, got {logits.shape}")
    columns, rows = logits.shape[-1], logits.shape[:-1]
    ignore_index = check_ignore_index("ignore_index", ignore_index)
    smoothing, mode = fraction("label_smoothing", label_smoothing), check_reduction("reduction", reduction)
    weights = None if weight is None else _class_weights("weight", weight, columns, logits.dtype)
    probabilities, labels, counted = class_target(target, logits, "logits", ignore_index)
    divisor = float(counted)
    if mode == "mean" and labels is not None and weights is not None:
        with np.errstate(over="ignore"):
            divisor = float(weights.astype(np.float64)[labels[labels != ignore_index]].sum())
        check_representable("the sum of the weights of all labels", divisor, np.dtype(np.float64))
        check_representable("1 / the sum of the weights of all labels", reciprocal(divisor), logits.dtype)
    grad = output_like(out, logits, "logits", {"target": probabilities if labels is None else labels})
    values = aligned_zeros(rows, logits.dtype) if mode == "none" else None
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
    total = run("cross_entropy", arguments, count, max(1, _core.CHUNK // columns), probabilities, out)
    return (total * reciprocal(divisor) if mode == "mean" else total if values is None else values), grad


def _class_weights(name: str, value: Any, classes: int, dtype: np.dtype[Any]) -> Array:
    """Return the weights of the classes as a new array in the dtype of the logits."""
    with np.errstate(over="ignore"):
        weights = as_numeric_array(name, value, "fiu", "numbers >= 0").astype(np.float64)
    if weights.shape not in {(), (classes,)}:
        raise ValueError(f"{name} must have shape ({classes},), got {weights.shape}")
    if not ((weights >= 0) & (weights <= np.finfo(dtype).max)).all():
        raise ValueError(f"{name} must be numbers >= 0 within the range of {dtype}, got {value!r}")
    return np.ascontiguousarray(np.broadcast_to(weights, (classes,)), dtype)
