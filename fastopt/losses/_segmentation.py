"""Losses of regions in images."""

from __future__ import annotations

import math
import operator
from functools import reduce
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastopt import _core
from fastopt._util.arrays import MAX_FINITE, Array, as_real, output_like
from fastopt._util.validation import choice, flag, non_negative
from fastopt.losses._common import (
    LossAndGradient,
    Reduction,
    check_ignore_index,
    check_reduction,
    class_target,
    reciprocal,
    run,
)

FORMS = {None: 0, "softmax": 1, "sigmoid": 2}  # numbered as in csrc/ops/dice.h
check_form = choice(*FORMS)


def dice(
    x: Array,
    target: npt.ArrayLike,
    *,
    from_logits: Literal["softmax", "sigmoid"] | None = "softmax",
    smooth: float = 1.0,
    squared: bool = False,
    per_image: bool = True,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGradient:
    r"""Compute the soft Dice loss of a segmentation and its gradient.

    For each class, with sums over the pixels of an image,

    .. math::

        L = 1 - \frac{2 A + s}{B}, \qquad A = \sum p\, q, \qquad B = \sum p + \sum q + s, \qquad
        \frac{\partial L}{\partial p} = -\frac{2 q}{B} + \frac{2 A + s}{B^2}

    With ``squared``, :math:`B = \sum p^2 + \sum q^2 + s` [1]_, and the last term of the gradient is multiplied by 2 p.
    The gradient that is returned is the one with respect to x.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, ..., C)
        Predictions for N images, channels last, with at least one class.
    target : array-like of int, shape (N, ...), or of real numbers, shape (N, ..., C)
        Labels in [0, C), of which q is the one-hot code, or q itself, in [0, 1]. Labels of two classes may be booleans.
        With one class, an array of either shape is a mask, q itself: 0 and 1 as integers or booleans, or numbers in
        [0, 1].
    from_logits : {"softmax", "sigmoid", None}, default "softmax"
        p is the softmax of x over the classes (at least two), the sigmoid of x, or x itself, which must then be
        probabilities and is not checked.
    smooth : float, default 1.0
        Smoothing term s of numerator and denominator, >= 0. With 0, a class with no p and no q has no loss.
    squared : bool, default False
        Whether the denominator has the sums of squares.
    per_image : bool, default True
        Whether the sums are over the pixels of each image, or over those of the whole batch.
    ignore_index : int, default -100
        Pixels with this label, often 255, are not counted in any sum and have no gradient. From -2**63 to 2**63 - 1.
        It has an effect on labels and on integer masks of one class, not on other arrays of q.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over images and classes, or each loss. For the mean, the gradient is
        divided by their number, too.
    out : ndarray, optional
        C-contiguous array for the gradient, with the shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; for ``reduction="none"`` an array of shape (N, C), or (C,) with ``per_image=False``. Without any
        counted pixel it is 0, and the mean of no images is NaN.
    gradient : ndarray
        Gradient with respect to ``x``.

    Raises
    ------
    TypeError
        If ``x`` is not an array of float32 or float64, ``out`` has another dtype, or labels are not integers.
    ValueError
        If a shape is wrong, an argument is out of range, ``from_logits`` is "softmax" with one class, or ``out``
        overlaps ``target`` or a part of ``x``.
    IndexError
        If a label is neither in [0, C), or with one class in [0, 2), nor ``ignore_index``.

    Notes
    -----
    MONAI's ``DiceLoss`` has channels first, two smoothing terms of 1e-5 each, and ``batch=True`` where this has
    ``per_image=False``. The form without squares is that of [2]_ without class weights.

    Inputs are copied if they are not C-contiguous, q also if it has another dtype than ``x``, and labels if they are
    not of int64.

    References
    ----------
    .. [1] F. Milletari, N. Navab and S.-A. Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical
       Image Segmentation", 3DV 2016. arXiv:1606.04797
    .. [2] C. H. Sudre et al., "Generalised Dice Overlap as a Deep Learning Loss Function for Highly Unbalanced
       Segmentations", DLMIA 2017. arXiv:1707.03237

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[20.0, 0.0], [0.0, 20.0]]])  # an image of two pixels, two classes
    >>> value, gradient = dice(x, np.array([[0, 1]]), smooth=0.0)
    >>> round(value, 6), gradient.shape
    (0.0, (1, 2, 2))
    """
    x = as_real("x", x)
    if x.ndim < 2 or x.shape[-1] == 0:
        raise ValueError(f"x must have shape (N, ..., C) with at least one class, got {x.shape}")
    images, classes, pixels = len(x), x.shape[-1], math.prod(x.shape[1:-1])
    form, mode = FORMS[check_form("from_logits", from_logits)], check_reduction("reduction", reduction)
    if classes == 1 and from_logits == "softmax":  # p would be 1
        raise ValueError("from_logits must be 'sigmoid' or None with one class, got 'softmax'")
    smooth, squared, per_image = non_negative("smooth", smooth), flag("squared", squared), flag("per_image", per_image)
    ignore_index = check_ignore_index("ignore_index", ignore_index)
    probabilities, labels, _ = class_target(target, x, "x", ignore_index, background=classes == 1)
    grad = output_like(out, x, "x", {"target": probabilities if labels is None else labels})
    chunk = max(1, _core.CHUNK // classes)  # pixels
    chunks = -(-pixels // chunk)  # per image
    sums = np.zeros((images, chunks, 3, classes))
    shape = {"columns": classes, "pixels": pixels, "form": form, "squared": squared}
    shared = {"target": probabilities, "label": labels, "ignore_index": ignore_index, **shape}
    arguments = {"x": x, "p": grad, "sums": sums, "block": chunk, **shared}
    run("dice_sums", arguments, images * chunks, 1, probabilities, out)
    if not per_image:
        sums = sums.reshape(1, images * chunks, 3, classes)
    with np.errstate(all="ignore"):  # with from_logits=None, p can be any numbers
        # Sums from left to right have the same bits on every platform; np.sum's order varies.
        totals = reduce(np.add, np.moveaxis(sums, 1, 0), np.zeros((len(sums), 3, classes)))
        loss, target_slope, other_slope = _dice_from_sums(totals, smooth)
        scale = reciprocal(loss.size) if mode == "mean" else 1.0
        # Where p is almost 0, a slope can exceed the range of the dtype; clipped, its product with p = 0 is still 0.
        limit = MAX_FINITE[x.dtype.char]
        slopes = scale * np.stack([target_slope, 2 * other_slope if squared else other_slope])
        slopes = np.clip(slopes, -limit, limit).astype(x.dtype)
        total = float(reduce(operator.add, loss.ravel(), 0.0))
        values = (loss if per_image else loss[0]).astype(x.dtype)
    arguments = {"x": grad, "target_slope": slopes[0], "p_slope": slopes[1], "per_image": per_image, **shared}
    _core.run("dice_grad", arguments, images * pixels, chunk, x.size)
    return values if mode == "none" else total * scale, grad


def _dice_from_sums(sums: Array, smooth: float) -> Array:
    """Return the loss of each class, and its slope with respect to p: the part that q multiplies, and the rest."""
    products, predicted, true = np.moveaxis(sums, 1, 0)
    numerator, denominator = 2 * products + smooth, predicted + true + smooth
    ratio = numerator / denominator
    return np.where(denominator == 0, 0.0, [1 - ratio, -2 / denominator, ratio / denominator])
