"""Batch normalization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastopt import _core
from fastopt._util.arrays import Array, as_real, as_real_of, check_array, check_no_overlap_with, output_like
from fastopt._util.records import Frozen
from fastopt._util.validation import finite_positive, flag, fraction

CHUNK_SIZE = 16384  # elements; stays in the L2 cache, and is large beside the two rows of sums per chunk
COLUMN_CHUNK = 64  # columns whose sums a thread adds up at a time
DIVISOR = 2.0**540  # of columns whose squares could overflow
PER_CHANNEL = ", an element per channel of x"


class BatchNormCache(Frozen):
    """Values that `batch_norm` computes and `batch_norm_backward` needs.

    `batch_norm` makes it. The parameters are read-only attributes.

    Parameters
    ----------
    x : ndarray of shape (N, ..., C)
        The input, not a copy if it is C-contiguous: it must not change before the backward pass.
    mean : ndarray of shape (C,)
        Mean that was subtracted, in the dtype of ``x``.
    scale : ndarray of shape (C,)
        weight / sqrt(variance + eps), in the dtype of ``x``.
    inverse_std : ndarray of float64, shape (C,)
        1 / sqrt(variance + eps).
    training : bool
        Whether mean and variance are those of the batch.

    Examples
    --------
    >>> _, cache = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> cache.mean, cache.inverse_std.round(4)
    (array([2.]), array([1.]))
    """

    def __init__(self, x: Array, mean: Array, scale: Array, inverse_std: Array, training: bool) -> None:
        self.x = x
        self.mean = mean
        self.scale = scale
        self.inverse_std = inverse_std
        self.training = training


def batch_norm(
    x: Array,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    out: Array | None = None,
) -> tuple[Array, BatchNormCache]:
    r"""Normalize each channel to mean 0 and variance 1, then scale and shift it [1]_.

    .. math:: y = \gamma\, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    In training, :math:`\mu` and :math:`\sigma^2` are the mean and the biased variance of the batch, over all axes but
    the last. Otherwise they are the running averages.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, ..., C)
        Input, channels last, with at least two rows in training. Copied if it is not C-contiguous.
    weight, bias : array-like of shape (C,)
        Scale :math:`\gamma` and shift :math:`\beta`, cast to the dtype of ``x``.
    running_mean, running_var : ndarray of shape (C,), optional
        Running averages. In training they are updated in place to (1 - momentum) * running + momentum * (mean, unbiased
        variance), and must have the dtype of ``x``; pass both or neither. Otherwise both are required, and array-likes
        that are cast.
    training : bool, default True
        Whether to normalize with the statistics of the batch.
    momentum : float, default 0.1
        Weight of the batch in the running averages, in [0, 1].
    eps : float, default 1e-5
        Term :math:`\epsilon` that is added to the variance, inside the root, > 0.
    out : ndarray, optional
        Array for the result, C-contiguous, with the shape and dtype of ``x``. It may not be ``x``, which the backward
        pass needs.

    Returns
    -------
    y : ndarray
        ``out``, or a new array like ``x``.
    cache : BatchNormCache
        The argument of `batch_norm_backward`.

    Raises
    ------
    TypeError
        If ``x`` or an array that is written has another dtype, or one or both running averages are missing.
    ValueError
        If a shape is wrong, an argument is out of range, there are fewer than two rows in training, or an array that is
        written overlaps another.

    Notes
    -----
    The same as ``torch.nn.functional.batch_norm``, except that channels are the last axis, not the second, and that
    weight and bias are required. If the variance exceeds the range of the dtype, PyTorch returns ``bias``; here only
    the running variance becomes infinite. Keras' ``momentum`` is 1 - momentum, and its epsilon is 1e-3.

    References
    ----------
    .. [1] S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
       Covariate Shift", ICML 2015. arXiv:1502.03167

    Examples
    --------
    >>> x = np.array([[1.0, 10.0], [3.0, 10.0]])
    >>> y, cache = batch_norm(x, weight=np.ones(2), bias=np.array([0.0, 5.0]), eps=1e-12)
    >>> y.round(6)
    array([[-1.,  5.],
           [ 1.,  5.]])
    """
    x = as_real("x", x)
    dtype, rows, columns = _check_batch("", x, training)
    momentum, eps = fraction("momentum", momentum), finite_positive("eps", eps)
    running = _running_averages(running_mean, running_var, training)
    columnwise: dict[str, Any] = {"weight": weight, "bias": bias, **running}
    for name, array in columnwise.items():
        if training and name in running:
            _check_column(name, array, columns, dtype, writable=True)
        else:
            columnwise[name] = as_real_of(name, array, dtype, (columns,), PER_CHANNEL)
    for name, array in running.items() if training else ():
        others = {other: a for other, a in columnwise.items() if other != name}
        check_no_overlap_with(name, array, {"x": x, **others})
    y = output_like(out, x, "x", columnwise)
    check_no_overlap_with("out", y, {"x": x})
    if training:
        cache = _batch_statistics(x, rows, columns, momentum, eps, columnwise)
    else:
        with np.errstate(all="ignore"):  # a running average can be any number
            inverse_std = 1 / np.sqrt(columnwise["running_var"].astype(np.float64) + eps)
            scale = (columnwise["weight"] * inverse_std).astype(dtype)
        cache = BatchNormCache(x, columnwise["running_mean"].copy(), scale, inverse_std, False)
    shift = columnwise["bias"]
    arguments = {"x": x, "y": y, "mean": cache.mean, "scale": cache.scale, "shift": shift, "columns": columns}
    _core.run("batch_norm", arguments, rows, _rows_per_chunk(columns), x.size)
    return y, cache


def batch_norm_backward(
    grad: npt.ArrayLike,
    cache: BatchNormCache,
    *,
    out: Array | None = None,
    grad_weight: Array | None = None,
    grad_bias: Array | None = None,
) -> tuple[Array, Array, Array]:
    r"""Compute the gradients of a batch normalization with respect to x, weight and bias.

    With the gradient g of y, M rows, and :math:`\hat x = (x - \mu) / \sqrt{\sigma^2 + \epsilon}`,

    .. math::

        \frac{\partial L}{\partial \beta} = \sum g, \qquad
        \frac{\partial L}{\partial \gamma} = \sum g \hat x, \qquad
        \frac{\partial L}{\partial x} = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
            \left(g - \frac{1}{M} \sum g - \frac{\hat x}{M} \sum g \hat x\right)

    Without ``training``, only g remains within the parentheses.

    Parameters
    ----------
    grad : array-like
        Gradient g with respect to y, with the shape of x, cast to its dtype.
    cache : BatchNormCache
        The second result of `batch_norm`.
    out : ndarray, optional
        Array for the gradient with respect to x, C-contiguous, with its dtype. It may be ``grad`` itself.
    grad_weight, grad_bias : ndarray of shape (C,), optional
        Arrays for the other gradients, in the dtype of x. They are overwritten, not added to.

    Returns
    -------
    grad_x : ndarray
        ``out``, or a new array like x.
    grad_weight, grad_bias : ndarray of shape (C,)
        The given arrays, or new ones.

    Raises
    ------
    TypeError
        If ``cache`` is not a `BatchNormCache`, or an array that is written has another dtype.
    ValueError
        If a shape is wrong, an array that is written overlaps another, or ``cache`` is not from `batch_norm` and its
        attributes are invalid.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0], [6.0]])
    >>> y, cache = batch_norm(x, np.ones(1), np.zeros(1))
    >>> grad_x, grad_weight, grad_bias = batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), cache)
    >>> grad_x.ravel().round(3), grad_bias
    (array([ 0.176, -0.22 ,  0.044]), array([1.]))
    """
    if not isinstance(cache, BatchNormCache):
        raise TypeError(f"cache must be the BatchNormCache that batch_norm returned, got {type(cache).__name__!r}")
    x = cache.x
    check_array("cache.x", x, writable=False)
    dtype, rows, columns = _check_batch("cache.", x, cache.training)
    columnwise = {"cache.mean": cache.mean, "cache.scale": cache.scale, "cache.inverse_std": cache.inverse_std}
    for (name, array), expected in zip(columnwise.items(), (dtype, dtype, np.dtype(np.float64)), strict=True):
        _check_column(name, array, columns, expected, writable=False)
    grad = as_real_of("grad", grad, dtype, x.shape, " like x")
    grad_x = output_like(out, grad, "grad", {"x": x, **columnwise})
    others = {"x": x, "grad": grad, "out": grad_x, **columnwise}
    grad_bias = _output_column("grad_bias", grad_bias, columns, dtype, others)
    grad_weight = _output_column("grad_weight", grad_weight, columns, dtype, {**others, "grad_bias": grad_bias})
    mean_grad, mean_grad_xhat = np.empty((2, columns), dtype)
    chunk = _rows_per_chunk(columns)
    sums = np.zeros((max(1, -(-rows // chunk)), 2, columns))
    shared: dict[str, Any] = {"x": x, "grad": grad, "mean": cache.mean, "columns": columns}
    op, divisor = "batch_norm_backward_sums", None
    if _core.run(op, {**shared, "sums": sums, "chunk": chunk}, rows, chunk, x.size):
        divisor = _recompute_large(op, "sums", sums, {"x": x, "grad": grad, "mean": cache.mean}, chunk)
    means = {"mean_grad": mean_grad, "mean_grad_xhat": mean_grad_xhat}
    arguments = {"x": x, "sums": sums, "divisor": divisor, "inverse_std": cache.inverse_std, "columns": columns}
    arguments |= {"grad_weight": grad_weight, "grad_bias": grad_bias, **means, "chunks": len(sums)}
    inv_rows = 1 / rows if cache.training else 0.0
    _core.run("batch_norm_reduce_backward", {**arguments, "inv_rows": inv_rows}, columns, COLUMN_CHUNK, sums.size)
    arguments = {**shared, **means, "out": grad_x, "scale": cache.scale}
    _core.run("batch_norm_backward", arguments, rows, chunk, x.size)
    return grad_x, grad_weight, grad_bias


def _batch_statistics(
    x: Array, rows: int, columns: int, momentum: float, eps: float, columnwise: dict[str, Array]
) -> BatchNormCache:
    """Compute mean and variance of a batch, and update the running averages if there are any."""
    mean, scale = np.empty((2, columns), x.dtype)
    cache = BatchNormCache(x, mean, scale, np.empty(columns), True)
    chunk = _rows_per_chunk(columns)
    sums = np.empty((-(-rows // chunk), 2, columns))
    shared = {"x": x, "moments": sums, "columns": columns, "chunk": chunk}
    op, divisor = "batch_norm_moments", None
    if _core.run(op, shared, rows, chunk, x.size):
        divisor = _recompute_large(op, "moments", sums, {"x": x}, chunk)
    arguments = {**shared, "divisor": divisor, "mean": mean, "scale": scale, "inverse_std": cache.inverse_std}
    arguments |= {name: columnwise.get(name) for name in ("weight", "running_mean", "running_var")}
    arguments |= {"rows": rows, "eps": eps, "momentum": momentum}
    _core.run("batch_norm_merge_moments", arguments, columns, COLUMN_CHUNK, sums.size)
    return cache


def _recompute_large(op: str, name: str, sums: Array, inputs: dict[str, Array], chunk: int) -> Array:
    """Compute again, divided and in float64, the sums of columns that could overflow; return each column's divisor."""
    is_large = ~((np.abs(sums[:, 0]) < 2.0**480) & (np.abs(sums[:, 1]) < 2.0**960)).all(axis=0)
    large = np.flatnonzero(is_large)
    arguments: dict[str, Any] = {name: np.empty((len(sums), 2, large.size)), "columns": large.size, "chunk": chunk}
    for own, array in inputs.items():
        columns = array.reshape(-1, is_large.size)[:, large].astype(np.float64, order="C")
        with np.errstate(under="ignore"):
            arguments[own] = columns if own == "grad" else columns / DIVISOR
    _core.run(op, arguments, len(arguments["x"]), chunk, arguments["x"].size)
    sums[:, :, large] = arguments[name]
    return np.where(is_large, DIVISOR, 1.0)


def _rows_per_chunk(columns: int) -> int:
    return max(1, CHUNK_SIZE // max(columns, 1))


def _check_batch(prefix: str, x: Any, training: Any) -> tuple[np.dtype[Any], int, int]:
    """Check the shape of the input of a batch normalization, and return its dtype, rows and channels."""
    if x.ndim < 2:
        raise ValueError(f"{prefix}x must have shape (N, ..., C), got {x.shape}")
    rows = math.prod(x.shape[:-1])
    if flag(f"{prefix}training", training) and rows < 2:
        raise ValueError(f"{prefix}x must have at least two rows in training, got shape {x.shape}")
    return x.dtype, rows, x.shape[-1]


def _check_column(name: str, array: Any, columns: int, dtype: np.dtype[Any], *, writable: bool) -> None:
    """Check an array with one element per channel."""
    if check_array(name, array, writable=writable) != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {array.dtype}")
    if array.shape != (columns,):
        raise ValueError(f"{name} must have shape ({columns},){PER_CHANNEL}, got {array.shape}")


def _output_column(name: str, out: Array | None, columns: int, dtype: np.dtype[Any], others: dict[str, Any]) -> Array:
    """Return ``out``, or a new array with one element per channel."""
    if out is None:
        return np.empty(columns, dtype)
    _check_column(name, out, columns, dtype, writable=True)
    check_no_overlap_with(name, out, others)
    return out


def _running_averages(mean: Array | None, variance: Array | None, training: bool) -> dict[str, Array]:
    """Return the running averages by name: both, or in training none."""
    if mean is not None and variance is not None:
        return {"running_mean": mean, "running_var": variance}
    if mean is None and variance is None and training:
        return {}
    expected = "must both be arrays, or both None" if training else "must be arrays unless training"
    missing = "running_mean" if mean is None else "running_var"
    raise TypeError(f"running_mean and running_var {expected}, got {missing} None")
