"""The rule of RMSprop in NumPy."""

from __future__ import annotations

import numpy as np

from fastopt.reference._common import Array, State, decay, flush, flush_to_scale, flush_to_square


def rmsprop(
    param: Array,
    grad: Array,
    square_avg: Array,
    grad_avg: State = None,
    momentum_buffer: State = None,
    *,
    step: int,
    scale: float = 1.0,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    eps_inside_sqrt: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> None:
    r"""Update a parameter with RMSprop, in place.

    .. math::

        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2 \\
        p_t &= p_{t-1} - \eta \frac{g_t}{\sqrt{v_t} + \epsilon}

    Parameters
    ----------
    param, grad, square_avg : ndarray of float32 or float64
        Parameter, gradient and average square, of one shape and dtype. All but `grad` are updated in place.
    grad_avg : ndarray, optional
        Average gradient a; required if `centered`.
    momentum_buffer : ndarray, optional
        Momentum buffer b; required if `momentum` is not 0.
    step : int
        Number of this step, >= 1.
    scale : float, default 1.0
        Factor of the gradient, applied first: the clip factor divided by the gradient scale.
    lr : float, default 1e-2
        Learning rate, >= 0.
    alpha : float, default 0.99
        Decay of the averages, in [0, 1).
    eps : float, default 1e-8
        Added to the square root, >= 0.
    weight_decay : float, default 0.0
        Decay strength, >= 0. Adds ``weight_decay * param`` to the gradient, or, if decoupled, first multiplies the
        parameter by ``1 - lr * weight_decay``.
    momentum : float, default 0.0
        In [0, 1). If not 0, the step is :math:`b_t = \mu b_{t-1} + g_t / (\sqrt{v_t} + \epsilon)`.
    centered : bool, default False
        Use the variance :math:`v_t - a_t^2`, where :math:`a_t = \alpha a_{t-1} + (1 - \alpha) g_t`, instead of v.
    eps_inside_sqrt : bool, default False
        Divide by :math:`\sqrt{v_t + \epsilon}`.
    maximize : bool, default False
        Maximize instead of minimize: negate the gradient.
    decoupled_weight_decay : bool, default False
        Apply `weight_decay` to the parameter, not to the gradient.

    Notes
    -----
    By default as in PyTorch. Keras and Optax add ``eps`` inside the square root.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5 - RMSProp", COURSERA: Neural Networks for Machine Learning, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> param, grad, square_avg = np.zeros(2), np.array([4.0, -1.0]), np.zeros(2)
    >>> rmsprop(param, grad, square_avg, step=1, lr=0.5, alpha=0.75, eps=0.0)
    >>> param
    array([-1.,  1.])
    """
    real = param.dtype.type
    g, p = decay(param, grad, step, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    g = flush_to_square(g)
    v = flush(real(alpha) * square_avg + real(1 - alpha) * g * g, step)
    square_avg[...] = v
    if centered:
        a = flush_to_square(real(alpha) * grad_avg + real(1 - alpha) * g)
        grad_avg[...] = a
        v = v - a * a
        v = np.where(v < 0, real(0), v)
    direction = g / (np.sqrt(v + real(eps)) if eps_inside_sqrt else np.sqrt(v) + real(eps))
    if momentum or momentum_buffer is not None:
        direction = flush_to_scale(real(momentum) * momentum_buffer + direction, step)
        momentum_buffer[...] = direction
    param[...] = p - real(lr) * direction
