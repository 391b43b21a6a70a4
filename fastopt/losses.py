r"""Losses: the value and the gradient with respect to what was predicted, in one fused pass.

Each function gives ``(value, gradient)``. Predictions x are float32 or float64, C-contiguous, of any shape; the
gradient is a new array like them, or ``out``, which may be x itself. ``reduction`` is ``"mean"`` or ``"sum"`` (the
value is a float, added up in float64, the same for any number of threads) or ``"none"`` (the value is an array, the
gradient that of the sum). Nothing is written if an argument can't be used: ``TypeError`` for another kind of thing or
dtype, ``ValueError`` for another shape or a number out of range, ``IndexError`` for a label that is none.

>>> import numpy as np
>>> from fastopt import losses
>>> logits, labels = np.zeros((2, 4), np.float32), np.array([0, 3])
>>> value, gradient = losses.cross_entropy(logits, labels)
>>> round(value, 6)
1.386294
>>> gradient[0]
array([-0.375,  0.125,  0.125,  0.125], dtype=float32)
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from fastopt import _core
from fastopt._util.arrays import GRAIN, MOST, Array, aligned_zeros, checked, held, like, numbers, output
from fastopt._util.validation import choice, finite_positive, flag, fraction, is_int, non_negative

__all__ = ["binary_cross_entropy", "cross_entropy", "dice", "focal", "huber", "log_cosh", "mae", "mse"]

Reduction: TypeAlias = Literal["mean", "sum", "none"]
Loss: TypeAlias = tuple[Any, Array]  # the value, a float or with reduction "none" an array; the gradient

FORMS = {None: 0, "softmax": 1, "sigmoid": 2}  # what probabilities are of x; numbered as in csrc/class_losses.h
MOST_LABEL = 2**53  # that a float64 tells from its neighbours
MOST_INT64, UNSIGNED_64 = np.uint64(2**63 - 1), "LQ"
_reduction = choice("mean", "sum", "none")
_form = choice(*FORMS)


def mse(x: Array, target: Array, *, reduction: Reduction = "mean", out: Array | None = None) -> Loss:
    r"""Squared error: :math:`(x - y)^2`, gradient :math:`2 (x - y)`, each over N for the mean.

    ``target`` y has the shape and the dtype of x.

    >>> mse(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, array([0., 2.]))
    """
    return _of_elements("mse", x, target, reduction, out)


def mae(x: Array, target: Array, *, reduction: Reduction = "mean", out: Array | None = None) -> Loss:
    r"""Absolute error: :math:`|x - y|`, gradient :math:`\operatorname{sign}(x - y)`, each over N for the mean.

    ``target`` y has the shape and the dtype of x. Where they are equal the gradient is 0.

    >>> mae(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (1.0, array([0. , 0.5]))
    """
    return _of_elements("mae", x, target, reduction, out)


def huber(
    x: Array, target: Array, delta: float = 1.0, *, reduction: Reduction = "mean", out: Array | None = None
) -> Loss:
    r"""Huber's loss: with d = x - y, :math:`d^2 / 2` up to ``delta``, :math:`\delta (|d| - \delta / 2)` beyond.

    The gradient is d, held within :math:`\pm\delta`; each over N for the mean. ``target`` y has the shape and the dtype
    of x. Source: Huber, "Robust estimation of a location parameter", 1964.

    >>> huber(np.array([0.5, -4.0]), np.zeros(2), reduction="none")
    (array([0.125, 3.5  ]), array([ 0.5, -1. ]))
    """
    delta = held("delta", finite_positive("delta", delta), checked("x", x))
    return _of_elements("huber", x, target, reduction, out, delta=delta)


def log_cosh(x: Array, target: Array, *, reduction: Reduction = "mean", out: Array | None = None) -> Loss:
    r"""Logarithm of the hyperbolic cosine: :math:`\log \cosh (x - y)`, gradient :math:`\tanh (x - y)`.

    Each over N for the mean. ``target`` y has the shape and the dtype of x. It is near :math:`d^2 / 2` for small
    differences d and near :math:`|d| - \log 2` for large ones.

    >>> value, gradient = log_cosh(np.array([0.0, 1000.0]), np.zeros(2), reduction="none")
    >>> value.round(6), gradient
    (array([  0.      , 999.306853]), array([0., 1.]))
    """
    return _of_elements("log_cosh", x, target, reduction, out)


def binary_cross_entropy(
    logits: Array,
    target: Array,
    *,
    pos_weight: float | Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> Loss:
    r"""Cross entropy of two classes, from logits: :math:`(1 - t) \log(1 + e^x) + w\, t \log(1 + e^{-x})`.

    The gradient is :math:`(1 - t)\, \sigma(x) - w\, t\, \sigma(-x)`; each over N for the mean. ``target`` t, in [0, 1],
    has the shape and the dtype of the logits; ``pos_weight`` w is a number, or an array for the last axis.

    >>> binary_cross_entropy(np.array([0.0, -1e4]), np.array([1.0, 1.0]), reduction="sum")[1]
    array([-0.5, -1. ])
    """
    wanted = checked("logits", logits)
    weight, columns = None, 1
    if pos_weight is not None:
        columns = logits.shape[-1] if logits.ndim else 1
        weight = _per_class("pos_weight", pos_weight, columns, wanted)
    return _of_elements(
        "binary_cross_entropy", logits, target, reduction, out, {"pos_weight": weight}, name="logits", columns=columns
    )


def focal(
    logits: Array,
    target: Array,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    *,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> Loss:
    r"""Focal loss of two classes, from logits: :math:`a\, u^\gamma` times the binary cross entropy.

    With :math:`p = \sigma(x)`, u = p (1 - t) + (1 - p) t is the probability of being wrong, so that what is right
    already counts little, and a = ``alpha`` t + (1 - ``alpha``) (1 - t), or 1 if ``alpha`` is None. The gradient is
    :math:`a\, u^\gamma (p - t + \gamma\, \mathit{bce}\; p\, (1 - p) (1 - 2 t) / u)`; each over N for the mean.
    ``target`` t, in [0, 1], has the shape and the dtype of the logits; ``gamma`` >= 0, ``alpha`` in [0, 1].
    Source: Lin et al., "Focal loss for dense object detection", 2017.

    >>> focal(np.zeros(2), np.array([1.0, 0.0]), alpha=None, reduction="none")[0].round(6)
    array([0.173287, 0.173287])
    """
    gamma = held("gamma", non_negative("gamma", gamma), checked("logits", logits))
    balance = -1.0 if alpha is None else fraction("alpha", alpha)
    return _of_elements("focal", logits, target, reduction, out, name="logits", gamma=gamma, alpha=balance)


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> Loss:
    r"""Cross entropy of classes, from logits: :math:`-\sum_c t_c \log \operatorname{softmax}(x)_c` of each row.

    Logits have the shape (..., C). ``target`` has integer labels, shape (...), or rows of probabilities, shape
    (..., C) and the dtype of the logits. With q the one-hot label or the row, s = ``label_smoothing`` and
    w = ``weight`` of the classes, shape (C,), :math:`t_c = w_c ((1 - s)\, q_c + s / C)`. The gradient is
    :math:`(\sum_k t_k) \operatorname{softmax}(x) - t`. For the mean both are divided by the number of rows, or with
    labels by the sum of their weights, as in PyTorch; rows with the label ``ignore_index`` have no part in anything.
    Raises ``IndexError`` for other labels that are not in [0, C).

    >>> value, gradient = cross_entropy(np.array([[1e4, 0.0, -np.inf]]), np.array([1]))
    >>> value, gradient
    (10000.0, array([[ 1., -1.,  0.]]))
    """
    dtype = checked("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits has shape {logits.shape}; wants (..., C) with at least one class")
    columns, rows = logits.shape[-1], logits.shape[:-1]
    ignored = _label_of_none("ignore_index", ignore_index)
    smoothing, mode = fraction("label_smoothing", label_smoothing), _reduction("reduction", reduction)
    weights = None if weight is None else _per_class("weight", weight, columns, dtype)
    labels = probabilities = None
    if getattr(getattr(target, "dtype", None), "kind", "") == "f":
        probabilities = like("target", target, logits, "logits")
        divisor = float(math.prod(rows))
    else:
        labels, counted = _labels(target, rows, columns, ignored, "logits")
        divisor = float(counted)
        if weights is not None:
            divisor = float(weights.astype(np.float64)[labels[labels != ignored]].sum())
            held("1 / the sum of the weights of all labels", _over(divisor), dtype)
    grad = output(out, logits, "logits", {"target": probabilities if labels is None else labels, "weight": weights})
    values = aligned_zeros(rows, dtype) if mode == "none" else None
    arguments = {
        "x": logits,
        "target": probabilities,
        "grad": grad,
        "values": values,
        "label": labels,
        "weight": weights,
        "factor": _over(divisor) if mode == "mean" else 1.0,
        "columns": columns,
        "label_smoothing": smoothing,
        "ignore_index": ignored,
    }
    count = math.prod(rows)
    total = _core.run("cross_entropy", arguments, count, max(1, GRAIN // columns), logits.size)
    return (total * _over(divisor) if mode == "mean" else total if values is None else values), grad


def dice(
    x: Array,
    target: Array,
    *,
    from_logits: Literal["softmax", "sigmoid"] | None = "softmax",
    smooth: float = 1.0,
    squared: bool = False,
    per_image: bool = True,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> Loss:
    r"""Soft Dice loss of segmentation: :math:`1 - (2 \sum p q + s) / (\sum p + \sum q + s)` for each class.

    x has the shape (N, ..., C), channels last: logits, of which p is the softmax over the classes or the sigmoid, or
    with ``from_logits=None`` the probabilities p themselves. ``target`` has integer labels, shape (N, ...), of which q
    is the one-hot code, or is q, with the shape and the dtype of x. Sums are over the pixels of an image, or with
    ``per_image=False`` of the batch; ``squared`` has squares of p and q in the denominator. s is ``smooth`` >= 0; a
    class without any p and q has no loss. The mean is over classes (and images); for ``"none"`` the value has the shape
    (N, C), or (C,). With A = :math:`\sum p q` and B the denominator, the gradient with respect to p is
    :math:`-2 q / B + (2 A + s) / B^2`, the latter times 2 p if squared; what is returned is with respect to x.
    Raises ``IndexError`` for labels that are not in [0, C). Source: Milletari et al., "V-Net", 2016 (squared);
    Sudre et al., "Generalised Dice overlap as a deep learning loss function", 2017.

    >>> x = np.array([[[20.0, 0.0], [0.0, 20.0]]])  # an image of two pixels, two classes
    >>> value, gradient = dice(x, np.array([[0, 1]]), smooth=0.0)
    >>> round(value, 6), gradient.shape
    (0.0, (1, 2, 2))
    """
    dtype = checked("x", x)
    if x.ndim < 2 or x.shape[-1] == 0:
        raise ValueError(f"x has shape {x.shape}; wants (N, ..., C) with at least one class")
    images, classes, pixels = len(x), x.shape[-1], math.prod(x.shape[1:-1])
    form, mode = FORMS[_form("from_logits", from_logits)], _reduction("reduction", reduction)
    smooth, squared, per_image = non_negative("smooth", smooth), flag("squared", squared), flag("per_image", per_image)
    labels = probabilities = None
    if getattr(getattr(target, "dtype", None), "kind", "") == "f":
        probabilities = like("target", target, x, "x")
    else:
        labels, _ = _labels(target, x.shape[:-1], classes, 0, "x")  # of which all are labels
    grad = output(out, x, "x", {"target": probabilities if labels is None else labels})
    piece = max(1, GRAIN // classes)
    pieces = -(-pixels // piece)  # of an image
    sums = np.zeros((images, pieces, 3, classes))
    shape = {"columns": classes, "pixels": pixels, "form": form, "squared": squared}
    shared = {"target": probabilities, "label": labels, **shape}
    _core.run("dice_sums", {"x": x, "p": grad, "sums": sums, "block": piece, **shared}, images * pieces, 1, x.size)
    parts = sums if per_image else sums.reshape(1, images * pieces, 3, classes)
    with np.errstate(all="ignore"):  # p may be given, and anything
        value, of_truth, rest = _dice_of_sums(_added_up(parts), smooth)
        share = _over(value.size) if mode == "mean" else 1.0
        # A slope beyond the type's range stands for a class of which p is next to nothing: a zero times it stays one.
        most = MOST[dtype.char]
        slopes = np.clip(share * np.stack([of_truth, 2 * rest if squared else rest]), -most, most).astype(dtype)
        total = float(np.add.accumulate([0.0, *value.ravel()])[-1])
        values = (value if per_image else value[0]).astype(dtype)
    arguments = {"x": grad, "target_slope": slopes[0], "p_slope": slopes[1], "per_image": per_image, **shared}
    _core.run("dice_grad", arguments, images * pixels, piece, x.size)
    return values if mode == "none" else total * share, grad


# What they share


def _of_elements(
    op: str,
    x: Array,
    target: Array,
    reduction: Reduction,
    out: Array | None,
    more: dict[str, Array | None] | None = None,
    name: str = "x",
    **numbers: float,
) -> Loss:
    dtype, mode = checked(name, x), _reduction("reduction", reduction)
    like("target", target, x, name)
    grad = output(out, x, name, {"target": target, **(more or {})})
    values = aligned_zeros(x.shape, dtype) if mode == "none" else None
    factor = _over(x.size) if mode == "mean" else 1.0
    arguments = {"x": x, "target": target, "grad": grad, "values": values, "factor": factor, **(more or {}), **numbers}
    total = _core.run(op, arguments, x.size, GRAIN, x.size)
    return (total * factor if mode == "mean" else total if values is None else values), grad


def _dice_of_sums(sums: Array, smooth: float) -> tuple[Array, ...]:
    """Give the loss of each image and class, and its slope with respect to p: what is times q, and the rest."""
    both, predicted, wanted = np.moveaxis(sums, 1, 0)
    above, below = 2 * both + smooth, predicted + wanted + smooth
    nothing = below == 0
    below = np.where(nothing, 1.0, below)
    parts = 1 - above / below, -2 / below, above / below / below
    return tuple(np.where(nothing, 0.0, part) for part in parts)


def _added_up(parts: Array) -> Array:
    """Sum along the second axis, one part behind the other."""
    total = np.zeros((len(parts), *parts.shape[2:]))
    for i in range(parts.shape[1]):
        total += parts[:, i]
    return total


def _over(divisor: float) -> float:
    """Give 1 / divisor; of nothing, the mean is a NaN."""
    return 1.0 / divisor if divisor else math.nan


def _per_class(name: str, value: Any, classes: int, dtype: np.dtype[Any]) -> Array:
    """Give weights of classes in the type of the logits: a copy, for they are few."""
    weights = numbers(name, value, "fiu", "numbers >= 0")
    if weights.shape not in {(), (classes,)}:
        raise ValueError(f"{name} has shape {weights.shape}; wants ({classes},)")
    with np.errstate(over="ignore"):  # of longer floats
        wide = weights.astype(np.float64)
    if not ((wide >= 0) & (wide <= MOST[dtype.char])).all():
        raise ValueError(f"{name} is {value!r}; wants numbers >= 0 within the range of {dtype}")
    return np.ascontiguousarray(np.broadcast_to(weights, (classes,)), dtype)


def _label_of_none(name: str, value: Any) -> int:
    """Check the label of rows that don't count; as all numbers of a task it travels as a float64."""
    if type(value) is not int and not is_int(value):
        raise TypeError(f"{name} is {value!r}; wants an int")
    if abs(int(value)) > MOST_LABEL:
        raise ValueError(f"{name} is {value!r}; wants an int from -2^53 to 2^53")
    return int(value)


def _labels(target: Any, rows: tuple[int, ...], classes: int, ignore_index: int, name: str) -> tuple[Array, int]:
    """Give labels as contiguous int64, and how many count, or raise for the first that is none."""
    given = numbers("target", target, "iu", f"integer labels, or probabilities of the shape and the dtype of {name}")
    if given.shape != rows:
        raise ValueError(f"target has shape {given.shape}; wants {rows}, a label for each row of {name}")
    # No label is beyond int64, nor ignored there.
    labels = np.ascontiguousarray(np.minimum(given, MOST_INT64) if given.dtype.char in UNSIGNED_64 else given, np.int64)
    counted = _core.count_labels(labels if labels.ndim == 1 else labels.reshape(-1), classes, ignore_index)
    if counted < 0:
        where = tuple(int(i) for i in np.unravel_index(-1 - counted, labels.shape))
        row = where[0] if len(where) == 1 else where
        raise IndexError(f"target has {given[where]} in row {row}; wants labels in [0, {classes})")
    return labels, counted
