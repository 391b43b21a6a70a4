"""The rule of Adam, AMSGrad and AdamW in NumPy."""

from __future__ import annotations

import math

import numpy as np

from fastopt.reference._common import Array, State, decay, flush, flush_to_scale, flush_to_square, power


def adam(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: State = None,
    *,
    step: int,
    scale: float = 1.0,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    eps_hat: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> None:
    r"""Update a parameter with Adam, in place.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        p_t &= p_{t-1} - \eta \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    param, grad, exp_avg, exp_avg_sq : ndarray of float32 or float64
        Parameter, gradient, and first and second moment, of one shape and dtype. All but `grad` are updated in place.
    max_exp_avg_sq : ndarray, optional
        Largest second moment so far; required with `amsgrad`.
    step : int
        Number of this step, >= 1.
    scale : float, default 1.0
        Factor of the gradient, applied first: the clip factor divided by the gradient scale.
    lr : float, default 1e-3
        Learning rate, >= 0.
    betas : pair of float, default (0.9, 0.999)
        Decay of the first and the second moment, in [0, 1).
    eps : float, default 1e-8
        Added to the square root, >= 0.
    weight_decay : float, default 0.0
        Decay strength, >= 0. Adds ``weight_decay * param`` to the gradient, or, if decoupled, first multiplies the
        parameter by ``1 - lr * weight_decay``.
    amsgrad : bool, default False
        Divide by the largest second moment so far.
    eps_hat : bool, default False
        Add ``eps`` before the bias correction: divide by :math:`(\sqrt{v_t} + \epsilon) / \sqrt{1 - \beta_2^t}`.
    maximize : bool, default False
        Maximize instead of minimize: negate the gradient.
    decoupled_weight_decay : bool, default False
        Apply `weight_decay` to the parameter, not to the gradient.

    Notes
    -----
    ``eps`` is added after the bias correction, as in the paper and in PyTorch; with `eps_hat` before it, as in Keras.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. arXiv:1412.6980
    .. [2] S. J. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018. arXiv:1904.09237

    Examples
    --------
    >>> import numpy as np
    >>> param, grad, m, v = np.zeros(2), np.array([3.0, -0.1]), np.zeros(2), np.zeros(2)
    >>> adam(param, grad, m, v, step=1, lr=0.5, eps=0.0)
    >>> param.round(12)
    array([-0.5,  0.5])
    """
    real = param.dtype.type
    beta1, beta2 = betas
    bias1, sqrt_bias2 = 1 - power(beta1, step), math.sqrt(1 - power(beta2, step))
    step_size, inv_sqrt_bias2 = (lr * sqrt_bias2 / bias1, 1) if eps_hat else (lr / bias1, 1 / sqrt_bias2)
    g, p = decay(param, grad, step, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    g = flush_to_square(g)
    m = flush_to_scale(real(beta1) * exp_avg + real(1 - beta1) * g, step)
    v = flush(real(beta2) * exp_avg_sq + real(1 - beta2) * g * g, step)
    exp_avg[...] = m
    exp_avg_sq[...] = v
    if amsgrad:
        v = np.where(max_exp_avg_sq > v, max_exp_avg_sq, v)
        max_exp_avg_sq[...] = v
    param[...] = p - real(step_size) * m / (real(inv_sqrt_bias2) * np.sqrt(v) + real(eps))
