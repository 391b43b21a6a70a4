"""RMSprop."""

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
    """RMSprop: p = p - lr * g / (sqrt(v) + eps), v = alpha * v + (1 - alpha) * g^2.

    centered: v - a^2 in place of v, a = alpha * a + (1 - alpha) * g; with momentum: p = p - lr * b,
    b = momentum * b + g / (sqrt(v) + eps); eps_inside_sqrt: sqrt(v + eps).

    >>> import numpy as np
    >>> param, grad, square_avg = np.zeros(2), np.array([4.0, -1.0]), np.zeros(2)
    >>> rmsprop(param, grad, square_avg, step=1, lr=0.5, alpha=0.75, eps=0.0)
    >>> param
    array([-1.,  1.])
    """
    real = param.dtype.type
    g, p = decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    g = flush_to_square(g)
    v = flush(real(alpha) * square_avg + real(1 - alpha) * g * g)
    square_avg[...] = v
    if centered:
        a = flush_to_square(real(alpha) * grad_avg + real(1 - alpha) * g)
        grad_avg[...] = a
        v = v - a * a
        v = np.where(v < 0, real(0), v)
    direction = g / (np.sqrt(v + real(eps)) if eps_inside_sqrt else np.sqrt(v) + real(eps))
    if momentum or momentum_buffer is not None:
        direction = flush_to_scale(real(momentum) * momentum_buffer + direction)
        momentum_buffer[...] = direction
    param[...] = p - real(lr) * direction
