"""Every kernel again in plain NumPy, as a reader would write it, with the same bits as the compiled one.

The functions have the signatures of ``fastopt.kernels``. Arrays of one call have one shape and one type, float32 or
float64, and are updated in place. Numbers become that type once, just before they meet an array: ``real(...)``.
Hyperparameters are Python numbers.

Common to all: ``scale`` multiplies the gradient first (1 / grad_scale times the clip factor), ``maximize`` negates it,
``weight_decay`` is coupled (added to the gradient as weight_decay * p) or decoupled (p shrinks by lr * weight_decay).
``step`` counts from 1. What is too small for fast arithmetic becomes zero: the ``_flush`` functions say where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
State: TypeAlias = Any  # an array; None where the hyperparameters need none

BLOCK = 4096  # elements that are summed together, and
LANES = 16  # how many sums run side by side in a block


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
    g, p = _decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    if not momentum and momentum_buffer is None:
        param[...] = p - real(lr) * g
        return
    b = _flush_to_scale(g if step == 1 else _plus(real(1 - dampening) * g, real(momentum), momentum_buffer))
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
    g, p = _decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    add, rate = (real(lr), real(1)) if form == "classical" else (real(1 - momentum), real(lr))
    v = _flush_to_scale(_plus(add * g, real(momentum), momentum_buffer))
    direction = real(momentum) * v + add * g if nesterov else v
    param[...] = p - rate * direction
    momentum_buffer[...] = v


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
    g, p = _decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    g = _flush_to_square(g)
    v = _flush(real(alpha) * square_avg + real(1 - alpha) * g * g)
    square_avg[...] = v
    if centered:
        a = _flush_to_square(real(alpha) * grad_avg + real(1 - alpha) * g)
        grad_avg[...] = a
        v = v - a * a
        v = np.where(v < 0, real(0), v)
    direction = g / (np.sqrt(v + real(eps)) if eps_inside_sqrt else np.sqrt(v) + real(eps))
    if momentum or momentum_buffer is not None:
        direction = _flush_to_scale(real(momentum) * momentum_buffer + direction)
        momentum_buffer[...] = direction
    param[...] = p - real(lr) * direction


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
    g, p = _decay(param, grad, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    g = _flush_to_square(g)
    m = _flush_to_scale(real(beta1) * exp_avg + real(1 - beta1) * g)
    v = _flush(real(beta2) * exp_avg_sq + real(1 - beta2) * g * g)
    exp_avg[...] = m
    exp_avg_sq[...] = v
    if amsgrad:
        v = np.where(max_exp_avg_sq > v, max_exp_avg_sq, v)
        max_exp_avg_sq[...] = v
    param[...] = p - real(lr / bias1) * m / (real(1 / math.sqrt(bias2)) * np.sqrt(v) + real(eps))


def _decay(
    param: Array, grad: Array, scale: float, lr: float, weight_decay: float, maximize: bool, decoupled: bool
) -> tuple[Array, Array]:
    """Give the scaled gradient with coupled decay, and the parameter with decoupled decay."""
    real = param.dtype.type
    g = real(-scale if maximize else scale) * grad
    if decoupled:
        shrink = real(1 - lr * weight_decay)
        return g, _flush(shrink * param) if shrink != 1 else param
    return _plus(g, real(weight_decay), param), param


def _plus(x: Array, factor: np.floating[Any], y: Array) -> Array:
    """Give x + factor * y, and x alone where the factor is zero: 0 * infinity would be NaN."""
    return x + factor * y if factor else x


def _flush(x: Array) -> Array:
    """Give what a state keeps, or a parameter that has decayed: zero below the smallest normal number."""
    return _zero_below(np.finfo(x.dtype).tiny, x)


def _flush_to_scale(x: Array) -> Array:
    """Give what a state keeps that a rate multiplies: zero where 2^-26 times it would be a denormal."""
    return _zero_below(2.0 ** (-100 if x.dtype == np.float32 else -996), x)


def _flush_to_square(x: Array) -> Array:
    """Give what is squared: zero where the square, times 1 - beta down to 2^-14, is nothing that a state keeps."""
    return _zero_below(2.0 ** (-56 if x.dtype == np.float32 else -504), x)


def _zero_below(least: float, x: Array) -> Array:
    return np.where(np.abs(x) < least, x.dtype.type(0), x)


def power(base: float, exponent: int) -> float:
    """Give base**exponent by squaring: the same bits on every platform, which libm's pow does not promise.

    >>> power(0.5, 10)
    0.0009765625
    """
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def average(ema: Array, param: Array, *, decay: float) -> None:
    """Exponential moving average of the parameters: e = decay * e + (1 - decay) * p.

    Computed from the difference, as PyTorch's lerp does: e + (1 - decay) * (p - e), for a decay up to a half
    p - decay * (p - e). Rounding does not make this drift; a difference beyond the type is an infinity.

    >>> import numpy as np
    >>> ema = np.array([8.0])
    >>> average(ema, np.array([4.0]), decay=0.75)
    >>> ema
    array([7.])
    """
    real = param.dtype.type
    difference = param - ema
    near_ema, near_param = ema + real(1 - decay) * difference, _plus(param, real(-decay), difference)
    moved = near_ema if real(1 - decay) < 0.5 else near_param
    ema[...] = _flush(np.where(param == ema, ema, moved))


def sum_squares(arrays: Sequence[Array]) -> float:
    """Sum all squares in float64, in a fixed shape, so that it is the same on any number of threads.

    Each array is cut into blocks; in a block element i goes to lane i % 16, the lanes are folded by halves, and the
    blocks are added up in order.

    >>> import numpy as np
    >>> sum_squares([np.array([1.0, 2.0]), np.array([3.0], dtype=np.float32)])
    14.0
    """
    total = 0.0
    for array in arrays:
        blocks = -(-array.size // BLOCK)
        x = np.zeros((blocks, BLOCK // LANES, LANES))
        x.ravel()[: array.size] = array.ravel()
        lanes: Array = np.zeros((blocks, LANES))
        for row in range(BLOCK // LANES):
            lanes += x[:, row] * x[:, row]
        while lanes.shape[1] > 1:
            half = lanes.shape[1] // 2
            lanes = lanes[:, :half] + lanes[:, half:]
        for block in lanes[:, 0]:
            total += float(block)
    return total


def clip_factor(norm: float, max_norm: float) -> float:
    """Give what scales gradients of this global norm down to ``max_norm``: min(1, max_norm / (norm + 1e-6)).

    An infinite ``max_norm`` scales nothing, whatever the norm.

    >>> clip_factor(0.5, 1.0), clip_factor(math.inf, math.inf)
    (1.0, 1.0)
    """
    if max_norm == math.inf or norm + 1e-6 <= max_norm:
        return 1.0
    return max_norm / (norm + 1e-6)


def whole_step(
    rule: Callable[..., None],
    tensors: Sequence[dict[str, Array]],
    *,
    max_grad_norm: float | None = None,
    grad_scale: float = 1.0,
    ema_decay: float | None = None,
    zero_grads: bool = False,
    **hyperparameters: Any,
) -> float | None:
    """Do one step of an optimizer on tensors given as their streams by name; give the norm, if one was computed.

    The order is: unscale, clip, update, average, zero.

    >>> import numpy as np
    >>> tensor = {"param": np.ones(2), "grad": np.array([30.0, 40.0])}
    >>> whole_step(sgd, [tensor], step=1, lr=1.0, grad_scale=10.0, max_grad_norm=2.5, zero_grads=True)
    5.0
    >>> tensor["param"].round(6), tensor["grad"]
    (array([-0.5, -1. ]), array([0., 0.]))
    """
    scale, norm = 1 / grad_scale, None
    if max_grad_norm is not None:
        norm = math.sqrt(sum_squares([tensor["grad"] for tensor in tensors])) / grad_scale
        scale *= clip_factor(norm, max_grad_norm)
    for tensor in tensors:
        streams = {name: array for name, array in tensor.items() if name != "ema"}
        rule(**streams, scale=scale, **hyperparameters)
        if ema_decay is not None:
            average(tensor["ema"], tensor["param"], decay=ema_decay)
        if zero_grads:
            tensor["grad"][...] = 0
    return norm
