r"""Dropout, batch norm, and the penalty on weights: each call one or two passes over memory.

Arrays are float32 or float64 and C-contiguous; a result is a new array, or ``out``. Nothing is written if an argument
can't be used: ``TypeError`` for another kind of thing or dtype, ``ValueError`` for another shape, a number out of
range, or memory that overlaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastopt import _core
from fastopt._util import random
from fastopt._util.arrays import GRAIN, Array, apart, checked, held, like, output
from fastopt._util.validation import decay, finite_positive, flag, fraction, non_negative
from fastopt.optimizers._param_tree import param_tree

PART = 16384  # elements of a part of the rows that batch norm does at a time
COLUMNS = 64  # that a thread joins at a time

__all__ = ["Normalized", "batch_norm", "batch_norm_backward", "dropout", "l2_penalty"]


def dropout(x: Array, p: float = 0.5, *, seed: int, step: int, out: Array | None = None) -> Array:
    r"""Zero each element with the probability p, and divide the others by 1 - p, so that the mean stays.

    :math:`y = x \cdot \mathit{keep} / (1 - p)`. What is kept is a function of ``seed``, ``step`` and the index of the
    element, and never stored: the same call on the gradient is the backward pass. Give each layer a seed of its own.
    x has any shape; p is in [0, 1) and rounded to a multiple of 2^-32; ``seed`` is below 2^64, ``step`` (of the
    optimizer, say) below 2^53; ``out`` may be x itself. For inference there is nothing to call.
    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014; the numbers
    are of Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

    >>> x = np.ones(8, np.float32)
    >>> dropout(x, 0.5, seed=1, step=0)
    array([0., 2., 2., 0., 0., 2., 2., 2.], dtype=float32)
    >>> dropout(2 * x, 0.5, seed=1, step=0)  # backward: what was dropped has no gradient
    array([0., 4., 4., 0., 0., 4., 4., 4.], dtype=float32)
    """
    checked("x", x)
    p, key = decay("p", p), random.key(seed, step)
    y = output(out, x, "x", {})
    dropped = min(round(p * 2**32), 2**32 - 1)  # of 2^32 numbers
    arguments = {"x": x, "y": y, **key, "dropped": dropped, "scale": 2**32 / (2**32 - dropped)}
    _core.run("dropout", arguments, x.size, GRAIN, x.size)
    return y


@dataclass(frozen=True)
class Normalized:
    """What `batch_norm` leaves for `batch_norm_backward`: x itself, which must stay as it is, and a few columns.

    >>> _, saved = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
    >>> saved.mean, saved.inverse_std.round(4)
    (array([2.]), array([1.]))
    """

    x: Array
    mean: Array
    """In the type of x, shape (C,), as what follows."""
    scale: Array
    """weight / sqrt(variance + eps)."""
    inverse_std: Array
    """1 / sqrt(variance + eps), in float64."""
    training: bool


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
) -> tuple[Array, Normalized]:
    r"""Give each channel the mean 0 and the variance 1, then a scale and a shift that are learned.

    :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta` with ``weight`` :math:`\gamma` and ``bias``
    :math:`\beta`. x has the shape (N, ..., C), channels last; all others have the shape (C,) and the dtype of x. In
    ``training`` the mean and the (biased) variance are those of the batch, over all axes but the last, and the running
    averages, if given, become (1 - ``momentum``) running + ``momentum`` (mean, unbiased variance), as in PyTorch;
    otherwise they are the running averages. ``out`` may not be x, which `batch_norm_backward` needs: it gets the second
    thing that is returned. Raises ``ValueError`` for less than two rows in training.
    Source: Ioffe and Szegedy, "Batch normalization", 2015.

    >>> x = np.array([[1.0, 10.0], [3.0, 10.0]])
    >>> y, saved = batch_norm(x, weight=np.ones(2), bias=np.array([0.0, 5.0]), eps=1e-12)
    >>> y.round(6)
    array([[-1.,  5.],
           [ 1.,  5.]])
    """
    dtype = checked("x", x)
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}; wants (N, ..., C)")
    columns, rows = x.shape[-1], math.prod(x.shape[:-1])
    if flag("training", training) and rows < 2:
        raise ValueError(f"x has shape {x.shape}; wants at least two rows in training, for one has no variance")
    momentum, eps = fraction("momentum", momentum), finite_positive("eps", eps)
    running = _running(running_mean, running_var, training)
    columnwise = {"weight": weight, "bias": bias, **running}
    for name, array in columnwise.items():
        _column(name, array, columns, dtype, written=training and name in running)
    if training:
        for name, array in running.items():
            apart(name, array, {"x": x, **{other: thing for other, thing in columnwise.items() if other != name}})
    y = output(out, x, "x", columnwise)
    apart("out", y, {"x": x})
    if training:
        saved = _normalized(x, rows, columns, momentum, eps, columnwise)
    else:
        mean, variance = running.values()
        with np.errstate(all="ignore"):  # of running averages that are none
            inverse_std = 1 / np.sqrt(variance.astype(np.float64) + eps)
            saved = Normalized(x, mean.copy(), (weight * inverse_std).astype(dtype), inverse_std, False)
    arguments = {"x": x, "y": y, "mean": saved.mean, "scale": saved.scale, "shift": bias, "columns": columns}
    _core.run("batch_norm", arguments, rows, _grain(columns), x.size)
    return y, saved


def batch_norm_backward(
    grad: Array,
    saved: Normalized,
    *,
    out: Array | None = None,
    grad_weight: Array | None = None,
    grad_bias: Array | None = None,
) -> tuple[Array, Array, Array]:
    r"""Give the gradients of x, weight and bias from that of y.

    With :math:`\hat x = (x - \mu) / \sqrt{\sigma^2 + \epsilon}` and M rows: the gradient of the bias is
    :math:`\sum g`, that of the weight :math:`\sum g \hat x`, and that of x
    :math:`\gamma / \sqrt{\sigma^2 + \epsilon}\, (g - \sum g / M - \hat x \sum g \hat x / M)`, or without training
    :math:`\gamma g / \sqrt{\sigma^2 + \epsilon}`. ``grad`` g has the shape and the dtype of x; ``out``, for the
    gradient of x, may be g itself; ``grad_weight`` and ``grad_bias`` are where those of the others are written.

    >>> x = np.array([[1.0], [2.0], [6.0]])
    >>> y, saved = batch_norm(x, np.ones(1), np.zeros(1))
    >>> of_x, of_weight, of_bias = batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), saved)
    >>> of_x.ravel().round(3), of_bias
    (array([ 0.176, -0.22 ,  0.044]), array([1.]))
    """
    if not isinstance(saved, Normalized):
        raise TypeError(f"saved is a {type(saved).__name__!r}; wants what batch_norm gave beside y")
    x, dtype = saved.x, checked("saved.x", saved.x)
    columns, rows = x.shape[-1], math.prod(x.shape[:-1])
    columnwise = {"saved.mean": saved.mean, "saved.scale": saved.scale, "saved.inverse_std": saved.inverse_std}
    for (name, array), wanted in zip(columnwise.items(), (dtype, dtype, np.dtype(np.float64)), strict=True):
        _column(name, array, columns, wanted, written=False)
    like("grad", grad, x, "x")
    of_x = output(out, grad, "grad", {"x": x, **columnwise})
    for name, result in {"grad_weight": grad_weight, "grad_bias": grad_bias}.items():
        if result is not None:
            _column(name, result, columns, dtype, written=True)
            apart(name, result, {"x": x, "grad": grad, "out": of_x, **columnwise})
    if grad_weight is not None:
        apart("grad_weight", grad_weight, {"grad_bias": grad_bias})
    of_weight, of_bias, of_grad, of_product = np.empty((4, columns), dtype)
    of_weight, of_bias = (
        own if given is None else given for own, given in ((of_weight, grad_weight), (of_bias, grad_bias))
    )
    grain = _grain(columns)
    parts = np.zeros((max(1, -(-rows // grain)), 2, columns))
    shared = {"x": x, "grad": grad, "mean": saved.mean, "columns": columns}
    _core.run("batch_norm_backward_sums", {**shared, "sums": parts, "chunk": grain}, rows, grain, x.size)
    means = {"mean_grad": of_grad, "mean_grad_xhat": of_product}
    arguments = {"x": x, "sums": parts, "inverse_std": saved.inverse_std, "columns": columns, "chunks": len(parts)}
    arguments |= {"grad_weight": of_weight, "grad_bias": of_bias, "inv_rows": 1 / rows if saved.training else 0.0}
    _core.run("batch_norm_reduce_backward", {**arguments, **means}, columns, COLUMNS, parts.size)
    arguments = {**shared, **means, "out": of_x, "scale": saved.scale}
    _core.run("batch_norm_backward", arguments, rows, grain, x.size)
    return of_x, of_weight, of_bias


def l2_penalty(params: Any, lam: float, grads: Any = None) -> float:
    r"""Give :math:`\lambda \lVert W \rVert^2`, and add its gradient, :math:`2 \lambda W`, to ``grads``.

    ``params`` is what an optimizer takes (without groups): a ``Flat``, one array, a list or tuple, or a mapping of
    arrays; ``grads`` the same kind of thing, or None for the value alone. It equals the optimizers' ``weight_decay`` of
    2 ``lam``, which costs no pass over memory; this one is for those who want the value in their loss.

    >>> params, grads = np.array([1.0, -2.0]), np.zeros(2)
    >>> l2_penalty(params, 0.1, grads), grads
    (0.5, array([ 0.2, -0.4]))
    """
    structure = param_tree(params)
    lam = non_negative("lam", lam)
    named = {f"params{own}": array for own, array in zip(structure.suffixes, structure.arrays, strict=True)}
    for name, array in named.items():
        held("2 lam", 2 * lam, checked(name, array))
    others = [None] * len(named) if grads is None else structure.take(grads, "grads")
    for (name, array), grad, own in zip(list(named.items()), others, structure.suffixes, strict=True):
        if grads is not None:
            like(f"grads{own}", grad, array, name, written=True)
            apart(f"grads{own}", grad, named)
            named[f"grads{own}"] = grad
    total = 0.0
    for array, grad in zip(structure.arrays, others, strict=True):
        arguments = {"x": array, "grad": grad, "factor": 2 * lam}
        total += _core.run("l2_penalty", arguments, array.size, GRAIN, array.size)
    return lam * total


def _normalized(
    x: Array, rows: int, columns: int, momentum: float, eps: float, columnwise: dict[str, Array]
) -> Normalized:
    """Find mean and variance of a batch, and move the running averages, if there are any."""
    mean, scale = np.empty((2, columns), x.dtype)
    saved = Normalized(x, mean, scale, np.empty(columns), True)
    grain = _grain(columns)
    parts = np.empty((-(-rows // grain), 2, columns))
    shared = {"x": x, "moments": parts, "columns": columns, "chunk": grain}
    _core.run("batch_norm_moments", shared, rows, grain, x.size)
    arguments = {**shared, "mean": mean, "scale": scale, "inverse_std": saved.inverse_std}
    arguments |= {name: columnwise.get(name) for name in ("weight", "running_mean", "running_var")}
    arguments |= {"rows": rows, "eps": eps, "momentum": momentum}
    _core.run("batch_norm_merge_moments", arguments, columns, COLUMNS, parts.size)
    return saved


def _grain(columns: int) -> int:
    """Give the rows of a part, which stays in a cache, and is large beside the two rows that are gathered of it."""
    return max(1, PART // max(columns, 1))


def _column(name: str, array: Any, columns: int, dtype: np.dtype[Any], written: bool) -> None:
    if checked(name, array, written) != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; wants {dtype}")
    if array.shape != (columns,):
        raise ValueError(f"{name} has shape {array.shape}; wants ({columns},), one for each channel of x")


def _running(mean: Array | None, variance: Array | None, training: bool) -> dict[str, Array]:
    """Give the running averages by name; there are both, or in training none."""
    if mean is not None and variance is not None:
        return {"running_mean": mean, "running_var": variance}
    if mean is None and variance is None and training:
        return {}
    missing = "running_mean" if mean is None else "running_var"
    raise TypeError(f"{missing} is None; wants both running averages" + (", or none" if training else ""))
