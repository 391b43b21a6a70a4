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


def decay(
    param: Array, grad: Array, scale: float, lr: float, weight_decay: float, maximize: bool, decoupled: bool
) -> tuple[Array, Array]:
    """Give the scaled gradient with coupled decay, and the parameter with decoupled decay."""
    real = param.dtype.type
    g = real(-scale if maximize else scale) * grad
    if decoupled:
        shrink = real(1 - lr * weight_decay)
        return g, flush(shrink * param) if shrink != 1 else param
    return plus(g, real(weight_decay), param), param


def plus(x: Array, factor: np.floating[Any], y: Array) -> Array:
    """Give x + factor * y, and x alone where the factor is zero: 0 * infinity would be NaN."""
    return x + factor * y if factor else x


def flush(x: Array) -> Array:
    """Give what a state keeps, or a parameter that has decayed: zero below the smallest normal number."""
    return zero_below(np.finfo(x.dtype).tiny, x)


def flush_to_scale(x: Array) -> Array:
    """Give what a state keeps that a rate multiplies: zero where 2^-26 times it would be a denormal."""
    return zero_below(2.0 ** (-100 if x.dtype == np.float32 else -996), x)


def flush_to_square(x: Array) -> Array:
    """Give what is squared: zero where the square, times 1 - beta down to 2^-14, is nothing that a state keeps."""
    return zero_below(2.0 ** (-56 if x.dtype == np.float32 else -504), x)


def zero_below(least: float, x: Array) -> Array:
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


def ema(ema: Array, param: Array, *, decay: float) -> None:
    """Exponential moving average of the parameters: e = decay * e + (1 - decay) * p.

    Computed from the difference, as PyTorch's lerp does: e + (1 - decay) * (p - e), for a decay up to a half
    p - decay * (p - e). Rounding does not make this drift; a difference beyond the type is an infinity.

    >>> import numpy as np
    >>> ema = np.array([8.0])
    >>> ema(ema, np.array([4.0]), decay=0.75)
    >>> ema
    array([7.])
    """
    real = param.dtype.type
    difference = param - ema
    near_ema, near_param = ema + real(1 - decay) * difference, plus(param, real(-decay), difference)
    moved = near_ema if real(1 - decay) < 0.5 else near_param
    ema[...] = flush(np.where(param == ema, ema, moved))


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
            ema(tensor["ema"], tensor["param"], decay=ema_decay)
        if zero_grads:
            tensor["grad"][...] = 0
    return norm
