r"""Layers that are bound by memory: dropout, batch normalization and an L2 penalty, in one or two passes each.

Arrays are C-contiguous and of float32 or float64. A result is a new array, or ``out``. Invalid arguments raise before
anything is written: ``TypeError`` for a wrong type or dtype, ``ValueError`` for a wrong shape, a number out of range or
overlapping memory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt import _core
from fastopt._util import random
from fastopt._util.arrays import Array, check_array, check_like, check_no_overlap_with, check_representable, output_like
from fastopt._util.records import Frozen
from fastopt._util.validation import decay, finite_positive, flag, fraction, non_negative
from fastopt.optimizers._param_tree import param_tree

BATCH_NORM_CHUNK_SIZE = 16384  # elements; stays in the L2 cache, and is large beside the two rows of sums per chunk
COLUMN_CHUNK = 64  # columns whose sums a thread adds up at a time

__all__ = ["BatchNormCache", "batch_norm", "batch_norm_backward", "dropout", "l2_penalty"]


def dropout(x: Array, p: float = 0.5, *, seed: int, step: int, out: Array | None = None) -> Array:
    r"""Zero each element with probability p and divide the others by 1 - p, so that the mean is preserved.

    The mask is a function of ``seed``, ``step`` and the index of the element [2]_ and is never stored. To propagate a
    gradient backward, call the function on it with the same arguments. Skip the call at inference.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        Activations, or in the backward pass their gradient.
    p : float, default 0.5
        Probability of dropping an element, in [0, 1). It is rounded to a multiple of 2**-32.
    seed : int
        From 0 to 2**64 - 1. Use a different seed for each layer.
    step : int
        Number of the training step, from 0 to 2**53 - 1, for example ``optimizer.steps``.
    out : ndarray, optional
        Array for the result, with the shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    ndarray
        ``out``, or a new array like ``x``.

    Raises
    ------
    TypeError
        If ``x`` or ``out`` is not an array of float32 or float64, or ``seed`` or ``step`` is not an int.
    ValueError
        If an argument is out of range, or ``out`` overlaps a part of ``x``.

    Notes
    -----
    ``torch.nn.functional.dropout`` scales in the same way; it has a global state instead of ``seed`` and ``step``.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, 2014.
    .. [2] J. K. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. The generator is Philox4x32-10.

    Examples
    --------
    >>> x = np.ones(8, np.float32)
    >>> dropout(x, 0.5, seed=1, step=0)
    array([0., 2., 2., 0., 0., 2., 2., 2.], dtype=float32)
    >>> dropout(2 * x, 0.5, seed=1, step=0)  # the backward pass drops the same elements
    array([0., 4., 4., 0., 0., 4., 4., 4.], dtype=float32)
    """
    check_array("x", x, writable=False)
    p, key = decay("p", p), random.key(seed, step)
    y = output_like(out, x, "x", {})
    dropped = min(round(p * 2**32), 2**32 - 1)  # of the 2**32 values of a random number
    arguments = {"x": x, "y": y, **key, "dropped": dropped, "scale": 2**32 / (2**32 - dropped)}
    _core.run("dropout", arguments, x.size, _core.CHUNK, x.size)
    return y


class BatchNormCache(Frozen):
    """Values that `batch_norm` computes and `batch_norm_backward` needs.

    `batch_norm` makes it. The parameters are read-only attributes.

    Parameters
    ----------
    x : ndarray of shape (N, ..., C)
        The input itself, not a copy: it must not change before the backward pass.
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
    weight: Array,
    bias: Array,
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
        Input, channels last, with at least two rows in training.
    weight, bias : ndarray of shape (C,)
        Scale :math:`\gamma` and shift :math:`\beta`, in the dtype of ``x``.
    running_mean, running_var : ndarray of shape (C,), optional
        Running averages, in the dtype of ``x``. In training they are updated in place to
        (1 - momentum) * running + momentum * (mean, unbiased variance); pass both or neither. Otherwise both are
        required.
    training : bool, default True
        Whether to normalize with the statistics of the batch.
    momentum : float, default 0.1
        Weight of the batch in the running averages, in [0, 1].
    eps : float, default 1e-5
        Term :math:`\epsilon` that is added to the variance, inside the root, > 0.
    out : ndarray, optional
        Array for the result, with the shape and dtype of ``x``. It may not be ``x``, which the backward pass needs.

    Returns
    -------
    y : ndarray
        ``out``, or a new array like ``x``.
    cache : BatchNormCache
        The argument of `batch_norm_backward`.

    Raises
    ------
    TypeError
        If an array has another dtype, or one or both running averages are missing.
    ValueError
        If a shape is wrong, an argument is out of range, there are fewer than two rows in training, or an array that is
        written overlaps another.

    Notes
    -----
    The same as ``torch.nn.functional.batch_norm``, except that channels are the last axis, not the second. Keras'
    ``momentum`` is 1 - momentum, and its epsilon is 1e-3.

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
    dtype, rows, columns = _check_batch("", x, training)
    momentum, eps = fraction("momentum", momentum), finite_positive("eps", eps)
    running = _running_averages(running_mean, running_var, training)
    columnwise = {"weight": weight, "bias": bias, **running}
    for name, array in columnwise.items():
        _check_column(name, array, columns, dtype, writable=training and name in running)
    if training:
        for name, array in running.items():
            others = {other: a for other, a in columnwise.items() if other != name}
            check_no_overlap_with(name, array, {"x": x, **others})
    y = output_like(out, x, "x", columnwise)
    check_no_overlap_with("out", y, {"x": x})
    if training:
        cache = _batch_statistics(x, rows, columns, momentum, eps, columnwise)
    else:
        mean, variance = running.values()
        with np.errstate(all="ignore"):  # a running average can be any number
            inverse_std = 1 / np.sqrt(variance.astype(np.float64) + eps)
            cache = BatchNormCache(x, mean.copy(), (weight * inverse_std).astype(dtype), inverse_std, False)
    arguments = {"x": x, "y": y, "mean": cache.mean, "scale": cache.scale, "shift": bias, "columns": columns}
    _core.run("batch_norm", arguments, rows, _rows_per_chunk(columns), x.size)
    return y, cache


def batch_norm_backward(
    grad: Array,
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
    grad : ndarray
        Gradient g with respect to y, with the shape and dtype of x.
    cache : BatchNormCache
        The second result of `batch_norm`.
    out : ndarray, optional
        Array for the gradient with respect to x. It may be ``grad`` itself.
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
        If ``cache`` is not a `BatchNormCache`, or an array has another dtype.
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
    dtype, rows, columns = _check_batch("cache.", x, cache.training)
    columnwise = {"cache.mean": cache.mean, "cache.scale": cache.scale, "cache.inverse_std": cache.inverse_std}
    for (name, array), expected in zip(columnwise.items(), (dtype, dtype, np.dtype(np.float64)), strict=True):
        _check_column(name, array, columns, expected, writable=False)
    check_like("grad", grad, x, "x", writable=False)
    grad_x = output_like(out, grad, "grad", {"x": x, **columnwise})
    others = {"x": x, "grad": grad, "out": grad_x, **columnwise}
    grad_bias = _output_column("grad_bias", grad_bias, columns, dtype, others)
    grad_weight = _output_column("grad_weight", grad_weight, columns, dtype, {**others, "grad_bias": grad_bias})
    mean_grad, mean_grad_xhat = np.empty((2, columns), dtype)
    chunk = _rows_per_chunk(columns)
    sums = np.zeros((max(1, -(-rows // chunk)), 2, columns))
    shared = {"x": x, "grad": grad, "mean": cache.mean, "columns": columns}
    _core.run("batch_norm_backward_sums", {**shared, "sums": sums, "chunk": chunk}, rows, chunk, x.size)
    means = {"mean_grad": mean_grad, "mean_grad_xhat": mean_grad_xhat}
    arguments = {"x": x, "sums": sums, "inverse_std": cache.inverse_std, "columns": columns, "chunks": len(sums)}
    arguments |= {"grad_weight": grad_weight, "grad_bias": grad_bias, "inv_rows": 1 / rows if cache.training else 0.0}
    _core.run("batch_norm_reduce_backward", {**arguments, **means}, columns, COLUMN_CHUNK, sums.size)
    arguments = {**shared, **means, "out": grad_x, "scale": cache.scale}
    _core.run("batch_norm_backward", arguments, rows, chunk, x.size)
    return grad_x, grad_weight, grad_bias


def l2_penalty(params: Any, lam: float, grads: Any = None) -> float:
    r"""Compute the L2 penalty of the parameters, and add its gradient to ``grads``.

    .. math:: L = \lambda \lVert W \rVert^2, \qquad \frac{\partial L}{\partial W} = 2 \lambda W

    Parameters
    ----------
    params : Flat, ndarray, or list, tuple or mapping of ndarray
        Parameters W of float32 or float64, as an optimizer takes them, without groups.
    lam : float
        Strength :math:`\lambda`, >= 0.
    grads : optional
        Gradients, with the structure of ``params``. The gradient of the penalty is added to them in place. None: only
        the value is computed.

    Returns
    -------
    float
        The penalty, accumulated in float64.

    Raises
    ------
    TypeError
        If an array is not of float32 or float64, or ``grads`` has another structure or dtype.
    ValueError
        If ``lam`` is out of range, shapes differ, or with ``grads`` two arrays overlap.

    Notes
    -----
    The penalty has the same effect as an optimizer's ``weight_decay`` of 2 lam, which needs no pass over memory. Use
    this function if the loss should include the value.

    Examples
    --------
    >>> params, grads = np.array([1.0, -2.0]), np.zeros(2)
    >>> l2_penalty(params, 0.1, grads), grads
    (0.5, array([ 0.2, -0.4]))
    """
    lam, tree = non_negative("lam", lam), param_tree(params)
    names = [f"params{path}" for path in tree.paths]
    for name, array in zip(names, tree.arrays, strict=True):
        check_representable("2 lam", 2 * lam, check_array(name, array, writable=False))
    grad_arrays = [None] * len(names) if grads is None else tree.flatten(grads, "grads")
    if grads is not None:
        grad_names = [f"grads{path}" for path in tree.paths]
        for grad_name, grad, array, name in zip(grad_names, grad_arrays, tree.arrays, names, strict=True):
            check_like(grad_name, grad, array, name, writable=True)
        _core.check_no_overlap([*tree.arrays, *grad_arrays], [*names, *grad_names])
    total = 0.0
    for array, grad in zip(tree.arrays, grad_arrays, strict=True):
        arguments = {"x": array, "grad": grad, "factor": 2 * lam}
        total += _core.run("l2_penalty", arguments, array.size, _core.CHUNK, array.size)
    return lam * total


def _batch_statistics(
    x: Array, rows: int, columns: int, momentum: float, eps: float, columnwise: dict[str, Array]
) -> BatchNormCache:
    """Compute mean and variance of a batch, and update the running averages if there are any."""
    mean, scale = np.empty((2, columns), x.dtype)
    cache = BatchNormCache(x, mean, scale, np.empty(columns), True)
    chunk = _rows_per_chunk(columns)
    sums = np.empty((-(-rows // chunk), 2, columns))
    shared = {"x": x, "moments": sums, "columns": columns, "chunk": chunk}
    _core.run("batch_norm_moments", shared, rows, chunk, x.size)
    arguments = {**shared, "mean": mean, "scale": scale, "inverse_std": cache.inverse_std}
    arguments |= {name: columnwise.get(name) for name in ("weight", "running_mean", "running_var")}
    arguments |= {"rows": rows, "eps": eps, "momentum": momentum}
    _core.run("batch_norm_merge_moments", arguments, columns, COLUMN_CHUNK, sums.size)
    return cache


def _rows_per_chunk(columns: int) -> int:
    return max(1, BATCH_NORM_CHUNK_SIZE // max(columns, 1))


def _check_batch(prefix: str, x: Any, training: Any) -> tuple[np.dtype[Any], int, int]:
    """Check the input of a batch normalization, and return its dtype, rows and channels."""
    dtype = check_array(f"{prefix}x", x, writable=False)
    if x.ndim < 2:
        raise ValueError(f"{prefix}x must have shape (N, ..., C), got {x.shape}")
    rows = math.prod(x.shape[:-1])
    if flag(f"{prefix}training", training) and rows < 2:
        raise ValueError(f"{prefix}x must have at least two rows in training, got shape {x.shape}")
    return dtype, rows, x.shape[-1]


def _check_column(name: str, array: Any, columns: int, dtype: np.dtype[Any], *, writable: bool) -> None:
    """Check an array with one element per channel."""
    if check_array(name, array, writable=writable) != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {array.dtype}")
    if array.shape != (columns,):
        raise ValueError(f"{name} must have shape ({columns},), an element per channel of x, got {array.shape}")


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
