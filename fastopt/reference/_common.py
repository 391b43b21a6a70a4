"""Arithmetic that the kernels share, and the stages of a step that surround a rule.

Hyperparameters are Python floats. They are rounded to the array's dtype once, by ``real(...)``, just before they meet
an array. Values too small for fast arithmetic are replaced by zero in the ``flush`` functions, those of states and of
decaying parameters in one step of 32: their thresholds leave room for the decay until the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
State: TypeAlias = Any  # an array, or None if the hyperparameters need none

BLOCK = 4096  # elements that are summed together: each block in lanes, then the blocks in order
LANES = 16  # partial sums of a block
FLUSH_PERIOD = 32  # steps; the steps whose numbers are multiples of it flush states
ROWS = 16  # consecutive terms of a sum that may be added in the array's dtype before they are added in float64


def decay(
    param: Array, grad: Array, step: int, scale: float, lr: float, weight_decay: float, maximize: bool, decoupled: bool
) -> tuple[Array, Array]:
    """Return the scaled gradient with coupled decay, and the parameter with decoupled decay."""
    real = param.dtype.type
    g = real(-scale if maximize else scale) * grad
    if decoupled:
        param_decay = real(1 - lr * weight_decay)
        return g, flush(param_decay * param, step) if param_decay != 1 else param
    return add_scaled(g, real(weight_decay), param), param


def add_scaled(x: Array, factor: np.floating[Any], y: Array) -> Array:
    """Return x + factor * y, or x if the factor is zero, because 0 * infinity is NaN."""
    return x + factor * y if factor else x


def flush(x: Array, step: int) -> Array:
    """Flush a state, or a parameter that has decayed: zero what would be denormal before the next flush."""
    return x if step % FLUSH_PERIOD else zero_below(2.0 ** (-121 if x.dtype == np.float32 else -1017), x)


def flush_to_scale(x: Array, step: int) -> Array:
    """Flush a state that is multiplied by a rate: zero where a rate of 2^-26 would make it denormal by then."""
    return x if step % FLUSH_PERIOD else zero_below(2.0 ** (-95 if x.dtype == np.float32 else -991), x)


def flush_to_square(x: Array) -> Array:
    """Flush a value that is squared: zero where the square times 2^-14 (a small 1 - beta) would be flushed."""
    return zero_below(2.0 ** (-53 if x.dtype == np.float32 else -501), x)


def zero_below(threshold: float, x: Array) -> Array:
    """Return x with zero in place of elements of smaller magnitude than the threshold."""
    return np.where(np.abs(x) < threshold, x.dtype.type(0), x)


def power(base: float, exponent: int) -> float:
    """Return base**exponent by repeated squaring.

    The result has the same bits on every platform, which ``pow`` of the C library does not guarantee.

    Parameters
    ----------
    base : float
        Any number.
    exponent : int
        Exponent; a negative one counts as 0.

    Returns
    -------
    float
        The power.

    Examples
    --------
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
    r"""Update an exponential moving average of a parameter in place.

    .. math:: e = \mathrm{decay} \cdot e + (1 - \mathrm{decay}) \cdot p

    Parameters
    ----------
    ema : ndarray
        The average, updated in place.
    param : ndarray
        The parameter: same shape and dtype.
    decay : float
        Weight of the old average, in [0, 1].

    Notes
    -----
    Computed from the difference, like ``torch.lerp``: ``e + (1 - decay) * (p - e)``, or ``p - decay * (p - e)`` if
    decay <= 0.5. An average that equals the parameter therefore never drifts. A difference that overflows is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> average = np.array([8.0])
    >>> ema(average, np.array([4.0]), decay=0.75)
    >>> average
    array([7.])
    """
    real = param.dtype.type
    difference = param - ema
    near_ema, near_param = ema + real(1 - decay) * difference, add_scaled(param, real(-decay), difference)
    moved = near_ema if real(1 - decay) < 0.5 else near_param
    ema[...] = zero_below(np.finfo(real).tiny, np.where(param == ema, ema, moved))


def sum_in_lanes(x: Array, rows: int = 1) -> Array:
    """Sum along the last axis: element i is added to lane i % 16, and the lanes are added by halves.

    In each lane, `rows` consecutive terms are added in the array's dtype, and these sums in float64.

    >>> sum_in_lanes(np.ones((2, 100), np.float32))
    array([100., 100.])
    """
    groups = -(-x.shape[-1] // (LANES * rows))
    padded = np.zeros((*x.shape[:-1], groups * LANES * rows), x.dtype)
    padded[..., : x.shape[-1]] = x
    by_group = np.moveaxis(padded.reshape(*x.shape[:-1], groups, rows, LANES), (-3, -2), (0, 1))
    lanes: Array = sum((sum(group) for group in by_group), np.zeros((*x.shape[:-1], LANES)))
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def sum_squares(arrays: Sequence[Array]) -> float:
    """Return the sum of the squares of all elements, computed in float64.

    Parameters
    ----------
    arrays : sequence of ndarray
        Arrays of float32 or float64.

    Returns
    -------
    float
        The sum.

    Notes
    -----
    The order of the additions is fixed, so that the sum does not depend on the number of threads. Each array is cut
    into blocks of 4,096 elements, in the order of memory. In a block, element i is added to lane i % 16; the sixteen
    lanes are then added by halves, and the blocks in order.

    Examples
    --------
    >>> import numpy as np
    >>> sum_squares([np.array([1.0, 2.0]), np.array([3.0], dtype=np.float32)])
    14.0
    """
    total = 0.0
    for array in arrays:
        blocks = np.zeros((-(-array.size // BLOCK), BLOCK))
        blocks.ravel()[: array.size] = array.ravel("K")
        for block in sum_in_lanes(blocks * blocks):  # not sum(), which compensates for rounding since Python 3.12
            total += float(block)
    return total


def clip_factor(norm: float, max_norm: float) -> float:
    """Return the factor that scales gradients of a global norm to at most `max_norm`.

    The factor is ``min(1, max_norm / (norm + 1e-6))``, as in PyTorch, and 1 if `max_norm` is infinite.

    Parameters
    ----------
    norm : float
        Global 2-norm of the gradients.
    max_norm : float
        Upper bound, > 0.

    Returns
    -------
    float
        A factor in [0, 1].

    Examples
    --------
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
    step: int | Sequence[int],
    max_grad_norm: float | None = None,
    grad_scale: float = 1.0,
    ema_decay: float | None = None,
    zero_grads: bool = False,
    **hyperparameters: Any,
) -> float | None:
    """Do one step of an optimizer: unscale, clip, update, average, zero.

    Parameters
    ----------
    rule : callable
        A rule of this package, such as `sgd`.
    tensors : sequence of dict
        For each tensor its arrays by name: the rule's operands, and "ema" with `ema_decay`. Updated in place.
    step : int or sequence of int
        Number of this step, >= 1, or one for each tensor, if some were left out of earlier steps.
    max_grad_norm : float, optional
        Scale the gradients so that their global 2-norm is at most this value.
    grad_scale : float, default 1.0
        The gradients are divided by this number first.
    ema_decay : float, optional
        Decay of the moving average of the parameters.
    zero_grads : bool, default False
        Set the gradients to zero at the end.
    **hyperparameters
        Passed to the rule.

    Returns
    -------
    float or None
        The global norm of the unscaled gradients; None without `max_grad_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt.reference import sgd
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
    steps = [step] * len(tensors) if isinstance(step, int) else step
    for tensor, own_step in zip(tensors, steps, strict=True):
        operands = {name: array for name, array in tensor.items() if name != "ema"}
        rule(**operands, step=own_step, scale=scale, **hyperparameters)
        if ema_decay is not None:
            ema(tensor["ema"], tensor["param"], decay=ema_decay)
        if zero_grads:
            tensor["grad"][...] = 0
    return norm
