"""The rules of stochastic gradient descent and momentum in NumPy."""

from __future__ import annotations

from fastopt.reference._common import Array, State, decay, flush_to_scale


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
    r"""Update a parameter with stochastic gradient descent, in place.

    .. math::

        b_t &= \mu b_{t-1} + (1 - \tau) g_t, \quad b_1 = g_1 \\
        p_t &= p_{t-1} - \eta b_t

    Without momentum, :math:`p_t = p_{t-1} - \eta g_t`.

    Parameters
    ----------
    param, grad : ndarray of float32 or float64
        Parameter, updated in place, and gradient, of one shape and dtype.
    momentum_buffer : ndarray, optional
        Momentum buffer b, updated in place; required if `momentum` is not 0.
    step : int
        Number of this step, >= 1.
    scale : float, default 1.0
        Factor of the gradient, applied first: the clip factor divided by the gradient scale.
    lr : float, default 1e-3
        Learning rate, >= 0.
    momentum : float, default 0.0
        Decay of the buffer, in [0, 1).
    dampening : float, default 0.0
        Fraction of the gradient that is not added to the buffer, in [0, 1].
    weight_decay : float, default 0.0
        Decay strength, >= 0. Adds ``weight_decay * param`` to the gradient, or, if decoupled, first multiplies the
        parameter by ``1 - lr * weight_decay``.
    nesterov : bool, default False
        Step along :math:`g_t + \mu b_t`.
    maximize : bool, default False
        Maximize instead of minimize: negate the gradient.
    decoupled_weight_decay : bool, default False
        Apply `weight_decay` to the parameter, not to the gradient.

    Notes
    -----
    The formula is PyTorch's; `momentum` has two other forms.

    Examples
    --------
    >>> import numpy as np
    >>> param, grad = np.zeros(2), np.array([1.0, -2.0])
    >>> sgd(param, grad, step=1, lr=0.5)
    >>> param
    array([-0.5,  1. ])
    """
    real = param.dtype.type
    g, p = decay(param, grad, step, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    # A buffer is updated even while the momentum is 0, so that a schedule of the momentum can start or pass through 0.
    if momentum or momentum_buffer is not None:
        buffer_decay, grad_weight = (0, 1) if step == 1 else (momentum, 1 - dampening)
        b = flush_to_scale(real(buffer_decay) * momentum_buffer + real(grad_weight) * g, step)
        momentum_buffer[...] = b
        g = g + real(momentum) * b if nesterov else b
    param[...] = p - real(lr) * g


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
    r"""Update a parameter with momentum, in place.

    The classical form, in which the buffer includes the learning rate:

    .. math::

        v_t &= \mu v_{t-1} + \eta g_t \\
        p_t &= p_{t-1} - v_t

    Parameters
    ----------
    param, grad, momentum_buffer : ndarray of float32 or float64
        Parameter, gradient and buffer v, of one shape and dtype. All but `grad` are updated in place.
    step : int
        Number of this step, >= 1.
    scale : float, default 1.0
        Factor of the gradient, applied first: the clip factor divided by the gradient scale.
    lr : float, default 1e-3
        Learning rate, >= 0.
    momentum : float, default 0.9
        Decay of the buffer, in [0, 1).
    weight_decay : float, default 0.0
        Decay strength, >= 0. Adds ``weight_decay * param`` to the gradient, or, if decoupled, first multiplies the
        parameter by ``1 - lr * weight_decay``.
    nesterov : bool, default False
        Step along :math:`\mu v_t` plus the term that was added to the buffer.
    form : {"classical", "ema"}, default "classical"
        With "ema", the buffer is an average of gradients: :math:`v_t = \mu v_{t-1} + (1 - \mu) g_t` and
        :math:`p_t = p_{t-1} - \eta v_t`.
    maximize : bool, default False
        Maximize instead of minimize: negate the gradient.
    decoupled_weight_decay : bool, default False
        Apply `weight_decay` to the parameter, not to the gradient.

    Notes
    -----
    Keras and scikit-learn use the classical form. `sgd` has PyTorch's, which differs if the learning rate changes.

    Examples
    --------
    >>> import numpy as np
    >>> param, grad, buffer = np.zeros(2), np.ones(2), np.ones(2)
    >>> momentum(param, grad, buffer, step=1, lr=1.0, momentum=0.5)
    >>> param
    array([-1.5, -1.5])
    """
    real = param.dtype.type
    g, p = decay(param, grad, step, scale, lr, weight_decay, maximize, decoupled_weight_decay)
    add, rate = (real(lr), real(1)) if form == "classical" else (real(1 - momentum), real(lr))
    v = flush_to_scale(real(momentum) * momentum_buffer + add * g, step)
    direction = real(momentum) * v + add * g if nesterov else v
    param[...] = p - rate * direction
    momentum_buffer[...] = v
