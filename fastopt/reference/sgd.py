"""SGD and momentum."""

from __future__ import annotations

from fastopt.reference._common import Array, State, decay, flush_to_scale, plus


def sgd(
    param: Array,
    grad: Array,
    momentum_buffer: State = None,
    *,
    step: int,
    scale: float = 1.0,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> None:
    """Gradient descent: p = p - lr * g; with momentum p = p - lr * b, b = momentum * b + (1 - dampening) * g.

    b = g at the first step; nesterov: p = p - lr * (g + momentum * b). A buffer is kept with a momentum of 0, too.

    >>> import numpy as np
    >>> param, grad = np.zeros(2), np.array([1.0, -2.0])
    >>> sgd(param, grad, step=1, lr=0.5)
    >>> param
    array([-0.5,  1. ])
    """
    real = param.dtype.type
    g, p = decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    if not momentum and momentum_buffer is None:
        param[...] = p - real(lr) * g
        return
    b = flush_to_scale(g if step == 1 else plus(real(1 - dampening) * g, real(momentum), momentum_buffer))
    direction = g + real(momentum) * b if nesterov else b
    param[...] = p - real(lr) * direction
    momentum_buffer[...] = b


def momentum(
    param: Array,
    grad: Array,
    momentum_buffer: Array,
    *,
    step: int,
    scale: float = 1.0,
    lr: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    form: str = "classical",
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> None:
    """Momentum, classical: v = momentum * v + lr * g, p = p - v.

    ema: v = momentum * v + (1 - momentum) * g, p = p - lr * v. nesterov: in place of v, momentum * v + what was added
    to v, with the new v.

    >>> import numpy as np
    >>> param, grad, buffer = np.zeros(2), np.ones(2), np.ones(2)
    >>> momentum(param, grad, buffer, step=1, lr=1.0, momentum=0.5)
    >>> param
    array([-1.5, -1.5])
    """
    real = param.dtype.type
    g, p = decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    add, rate = (real(lr), real(1)) if form == "classical" else (real(1 - momentum), real(lr))
    v = flush_to_scale(plus(add * g, real(momentum), momentum_buffer))
    direction = real(momentum) * v + add * g if nesterov else v
    param[...] = p - rate * direction
    momentum_buffer[...] = v
