"""Layers of single elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt import _core
from fastopt._util import random
from fastopt._util.arrays import Array, as_real, check_like, check_representable, output_like
from fastopt._util.validation import decay, non_negative
from fastopt.optimizers._param_tree import param_tree

DIVISOR = 2.0**540  # of numbers whose squares overflow


def dropout(x: Array, p: float = 0.5, *, seed: int, step: int, out: Array | None = None) -> Array:
    r"""Zero each element with probability p and divide the others by 1 - p, so that the mean is preserved.

    The mask is a function of ``seed``, ``step`` and the index of the element [2]_ and is never stored. To propagate a
    gradient backward, call the function on it with the same arguments. Skip the call at inference.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        Activations, or in the backward pass their gradient. Copied if it is not C-contiguous.
    p : float, default 0.5
        Probability of dropping an element, in [0, 1). It is rounded to a multiple of 2**-32.
    seed : int
        From 0 to 2**64 - 1. Use a different seed for each layer.
    step : int
        Any number from 0 to 2**53 - 1 that differs between batches: ``optimizer.steps``, or ``optimizer.micro_steps``
        if batches are accumulated in parts.
    out : ndarray, optional
        Array for the result, C-contiguous, with the shape and dtype of ``x``. It may be ``x`` itself.

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
    ``torch.nn.functional.dropout`` scales in the same way. It has a global state instead of ``seed`` and ``step``, and
    accepts p = 1. Infinities and NaN that are dropped become NaN there, and 0 here.

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
    x = as_real("x", x)
    p, key = decay("p", p), random.key(seed, step)
    y = output_like(out, x, "x", {})
    dropped = min(round(p * 2**32), 2**32 - 1)  # of the 2**32 values of a random number
    arguments = {"x": x, "y": y, **key, "dropped": dropped, "scale": 2**32 / (2**32 - dropped)}
    _core.run("dropout", arguments, x.size, _core.CHUNK, x.size)
    return y


def l2_penalty(params: Any, lam: float, grads: Any = None) -> float:
    r"""Compute the L2 penalty of the parameters, and add its gradient to ``grads``.

    .. math:: L = \lambda \lVert W \rVert^2, \qquad \frac{\partial L}{\partial W} = 2 \lambda W

    Parameters
    ----------
    params : Flat, ndarray, or list, tuple or mapping of ndarray
        Parameters W of float32 or float64, as an optimizer takes them, without groups. Empty containers have penalty 0.
    lam : float
        Strength :math:`\lambda`, >= 0.
    grads : optional
        Gradients, C-contiguous, with the structure of ``params``. The gradient of the penalty is added to them in
        place. None: only the value is computed.

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
    arrays = [as_real(name, array) for name, array in zip(names, tree.arrays, strict=True)]
    for array in arrays:
        check_representable("2 lam", 2 * lam, array.dtype)
    grad_arrays = [None] * len(names) if grads is None else tree.flatten(grads, "grads")
    if grads is not None:
        grad_names = [f"grads{path}" for path in tree.paths]
        for grad_name, grad, array, name in zip(grad_names, grad_arrays, arrays, names, strict=True):
            check_like(grad_name, grad, array, name, writable=True)
        _core.check_no_overlap([*arrays, *grad_arrays], [*names, *grad_names])
    total = _sum_squares(arrays, grad_arrays, 2 * lam)
    if math.isinf(total):  # perhaps the penalty is not
        with np.errstate(under="ignore"):
            divided = [array.astype(np.float64) / DIVISOR for array in arrays]
        return lam * _sum_squares(divided, [None] * len(arrays), 0.0) * DIVISOR * DIVISOR
    return lam * total


def _sum_squares(arrays: list[Array], grads: list[Any], factor: float) -> float:
    """Return the sum of squares, and add the arrays, multiplied by a factor, to gradients."""
    total = 0.0
    for array, grad in zip(arrays, grads, strict=True):
        arguments = {"x": array, "grad": grad, "factor": factor}
        total += _core.run("l2_penalty", arguments, array.size, _core.CHUNK, array.size)
    return total
