"""The rule of Adagrad in NumPy."""

from __future__ import annotations

import numpy as np

from fastopt.reference._common import Array, decay, flush_to_square


def adagrad(
    param: Array,
    grad: Array,
    sum: Array,  # noqa: A002  PyTorch's name of the state
    *,
    step: int,
    scale: float = 1.0,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> None:
    r"""Update a parameter with Adagrad, in place.

    .. math::

        s_t &= s_{t-1} + g_t^2 \\
        p_t &= p_{t-1} - \frac{\eta}{1 + (t - 1) \delta} \frac{g_t}{\sqrt{s_t} + \epsilon}

    Parameters
    ----------
    param, grad, sum : ndarray of float32 or float64
        Parameter, gradient, and sum of the squared gradients, of one shape and dtype. All but `grad` are updated in
        place. The sum starts at 0 or a positive value.
    step : int
        Number of this step, >= 1.
    scale : float, default 1.0
        Factor of the gradient, applied first: the clip factor divided by the gradient scale.
    lr : float, default 1e-2
        Learning rate, >= 0.
    lr_decay : float, default 0.0
        Decay :math:`\delta` of the rate, >= 0: the rate of step t is ``lr / (1 + (t - 1) * lr_decay)``.
    weight_decay : float, default 0.0
        Decay strength, >= 0. Adds ``weight_decay * param`` to the gradient, or, if decoupled, first multiplies the
        parameter by one minus ``weight_decay`` times the rate of the step.
    eps : float, default 1e-10
        Added to the square root, >= 0.
    maximize : bool, default False
        Maximize instead of minimize: negate the gradient.
    decoupled_weight_decay : bool, default False
        Apply `weight_decay` to the parameter, not to the gradient.

    Notes
    -----
    The formula is PyTorch's. Keras and Optax add ``eps`` inside the square root.

    References
    ----------
    .. [1] J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
       Optimization", JMLR 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> param, grad, total = np.zeros(2), np.array([4.0, -1.0]), np.array([9.0, 0.0])
    >>> adagrad(param, grad, total, step=1, lr=0.5, eps=0.0)
    >>> param, total
    (array([-0.4,  0.5]), array([25.,  1.]))
    """
    real = param.dtype.type
    rate = lr / (1 + (step - 1) * lr_decay)
    g, p = decay(param, grad, step, scale, rate, weight_decay, maximize, decoupled_weight_decay)
    g = flush_to_square(g)
    s = sum + g * g
    sum[...] = s
    param[...] = p - real(rate) * g / (np.sqrt(s) + real(eps))
