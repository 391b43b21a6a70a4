"""Losses of real numbers."""

from __future__ import annotations

import numpy.typing as npt

from fastopt._util.arrays import Array, as_real, check_representable
from fastopt._util.validation import finite_positive
from fastopt.losses._common import LossAndGradient, Reduction, elementwise_loss


def mse(x: Array, target: npt.ArrayLike, *, reduction: Reduction = "mean", out: Array | None = None) -> LossAndGradient:
    r"""Compute the squared error and its gradient.

    .. math:: L = (x - y)^2, \qquad \frac{\partial L}{\partial x} = 2 (x - y)

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        Predictions.
    target : array-like of real numbers or booleans
        True values y, with the shape of ``x``.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        C-contiguous array for the gradient, with the shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``x`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``x``.

    Raises
    ------
    TypeError
        If ``x`` is not an array of float32 or float64, ``out`` has another dtype, or ``target`` is not numeric.
    ValueError
        If the shapes differ, ``target`` is out of the range of the dtype, or ``out`` overlaps ``target`` or a part of
        ``x``.

    Notes
    -----
    Inputs are copied if they are not C-contiguous, ``target`` also if it has another dtype than ``x``.

    The same as ``torch.nn.functional.mse_loss``. There is no factor of 1/2, unlike in scikit-learn's
    ``HalfSquaredError``.

    Examples
    --------
    >>> import numpy as np
    >>> mse(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (2.0, array([0., 2.]))
    """
    return elementwise_loss("mse", as_real("x", x), target, reduction, out)


def mae(x: Array, target: npt.ArrayLike, *, reduction: Reduction = "mean", out: Array | None = None) -> LossAndGradient:
    r"""Compute the absolute error and its gradient.

    .. math:: L = |x - y|, \qquad \frac{\partial L}{\partial x} = \operatorname{sign}(x - y)

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        Predictions.
    target : array-like of real numbers or booleans
        True values y, with the shape of ``x``.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        C-contiguous array for the gradient, with the shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``x`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``x``, 0 where x equals y.

    Raises
    ------
    TypeError
        If ``x`` is not an array of float32 or float64, ``out`` has another dtype, or ``target`` is not numeric.
    ValueError
        If the shapes differ, ``target`` is out of the range of the dtype, or ``out`` overlaps ``target`` or a part of
        ``x``.

    Notes
    -----
    Inputs are copied if they are not C-contiguous, ``target`` also if it has another dtype than ``x``.

    The same as ``torch.nn.functional.l1_loss``, whose gradient is 0 where the difference is NaN; here it is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> mae(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (1.0, array([0. , 0.5]))
    """
    return elementwise_loss("mae", as_real("x", x), target, reduction, out)


def huber(
    x: Array, target: npt.ArrayLike, delta: float = 1.0, *, reduction: Reduction = "mean", out: Array | None = None
) -> LossAndGradient:
    r"""Compute Huber's loss [1]_ and its gradient: quadratic for small differences, linear for large ones.

    With :math:`d = x - y`,

    .. math::

        L = \begin{cases} d^2 / 2 & |d| \le \delta \\ \delta (|d| - \delta / 2) & |d| > \delta \end{cases},
        \qquad \frac{\partial L}{\partial x} = \min(\max(d, -\delta), \delta)

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        Predictions.
    target : array-like of real numbers or booleans
        True values y, with the shape of ``x``.
    delta : float, default 1.0
        Difference at which the loss becomes linear, > 0, in the unit of ``x``.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        C-contiguous array for the gradient, with the shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``x`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``x``.

    Raises
    ------
    TypeError
        If ``x`` is not an array of float32 or float64, ``out`` has another dtype, or ``target`` is not numeric.
    ValueError
        If the shapes differ, ``delta`` or ``target`` is out of the range of the dtype, or ``out`` overlaps ``target``
        or a part of ``x``.

    Notes
    -----
    Inputs are copied if they are not C-contiguous, ``target`` also if it has another dtype than ``x``.

    The same as ``torch.nn.functional.huber_loss``, which also accepts an infinite ``delta`` (half of `mse`);
    ``smooth_l1_loss`` with ``beta=delta`` is this divided by delta.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> huber(np.array([0.5, -4.0]), np.zeros(2), reduction="none")
    (array([0.125, 3.5  ]), array([ 0.5, -1. ]))
    """
    x = as_real("x", x)
    delta = check_representable("delta", finite_positive("delta", delta), x.dtype)
    return elementwise_loss("huber", x, target, reduction, out, delta=delta)


def log_cosh(
    x: Array, target: npt.ArrayLike, *, reduction: Reduction = "mean", out: Array | None = None
) -> LossAndGradient:
    r"""Compute the logarithm of the hyperbolic cosine of the difference and its gradient.

    .. math:: L = \log \cosh (x - y), \qquad \frac{\partial L}{\partial x} = \tanh (x - y)

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
        Predictions.
    target : array-like of real numbers or booleans
        True values y, with the shape of ``x``.
    reduction : {"mean", "sum", "none"}, default "mean"
        Value to return: the mean or the sum over all elements, or each loss. For the mean, the gradient is divided by
        the number of elements, too.
    out : ndarray, optional
        C-contiguous array for the gradient, with the shape and dtype of ``x``. It may be ``x`` itself.

    Returns
    -------
    value : float or ndarray
        The loss; an array like ``x`` for ``reduction="none"``. The mean of an empty array is NaN.
    gradient : ndarray
        Gradient with respect to ``x``.

    Raises
    ------
    TypeError
        If ``x`` is not an array of float32 or float64, ``out`` has another dtype, or ``target`` is not numeric.
    ValueError
        If the shapes differ, ``target`` is out of the range of the dtype, or ``out`` overlaps ``target`` or a part of
        ``x``.

    See Also
    --------
    huber : A similar shape with a chosen width.

    Notes
    -----
    Inputs are copied if they are not C-contiguous, ``target`` also if it has another dtype than ``x``.

    Near :math:`d^2 / 2` for small differences d and near :math:`|d| - \log 2` for large ones, without overflow. The
    same as ``keras.losses.log_cosh`` and ``optax.log_cosh``.

    Examples
    --------
    >>> import numpy as np
    >>> value, gradient = log_cosh(np.array([0.0, 1000.0]), np.zeros(2), reduction="none")
    >>> value.round(6), gradient
    (array([  0.      , 999.306853]), array([0., 1.]))
    """
    return elementwise_loss("log_cosh", as_real("x", x), target, reduction, out)
