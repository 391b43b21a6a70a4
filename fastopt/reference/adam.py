"""Adam."""

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
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> None:
    """Adam: p = p - lr * (m / bias1) / (sqrt(v / bias2) + eps), m and v the running means of g and g^2.

    m = beta1 * m + (1 - beta1) * g, v = beta2 * v + (1 - beta2) * g^2, bias = 1 - beta^step; amsgrad: the greatest v so
    far in place of v in the denominator.

    >>> import numpy as np
    >>> param, grad, m, v = np.zeros(2), np.array([3.0, -0.1]), np.zeros(2), np.zeros(2)
    >>> adam(param, grad, m, v, step=1, lr=0.5, eps=0.0)
    >>> param.round(12)
    array([-0.5,  0.5])
    """
    real = param.dtype.type
    beta1, beta2 = betas
    bias1, bias2 = 1 - power(beta1, step), 1 - power(beta2, step)
    g, p = decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    g = flush_to_square(g)
    m = flush_to_scale(real(beta1) * exp_avg + real(1 - beta1) * g)
    v = flush(real(beta2) * exp_avg_sq + real(1 - beta2) * g * g)
    exp_avg[...] = m
    exp_avg_sq[...] = v
    if amsgrad:
        v = np.where(max_exp_avg_sq > v, max_exp_avg_sq, v)
        max_exp_avg_sq[...] = v
    param[...] = p - real(lr / bias1) * m / (real(1 / math.sqrt(bias2)) * np.sqrt(v) + real(eps))
