"""RMSprop; mirrors ``csrc/rules/rmsprop.h`` and ``fastopt/reference/rmsprop.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._base import Optimizer
from fastopt.optimizers._options import Common

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    r"""RMSprop: the gradient divided by a moving average of its magnitude.

    .. math::
        v &\leftarrow \alpha\, v + (1 - \alpha)\, g^2 \\
        a &\leftarrow \alpha\, a + (1 - \alpha)\, g
        \quad \text{and } v - a^2 \text{ replaces } v \text{ below, if centered} \\
        d &= g / (\sqrt{v} + \epsilon)
        \quad \text{or } g / \sqrt{v + \epsilon} \text{ if eps\_inside\_sqrt} \\
        p &\leftarrow p - \eta\, d
        \quad \text{or } b \leftarrow \mu\, b + d,\ p \leftarrow p - \eta\, b \text{ with momentum } \mu

    Parameters
    ----------
    <params>
    lr : float or callable, default 1e-2
        <lr>
    alpha : float or callable, default 0.99
        Decay :math:`\alpha` of the averages, in [0, 1).
    eps : float or callable, default 1e-8
        Term :math:`\epsilon` added to the denominator, >= 0 and finite.
    weight_decay : float or callable, default 0.0
        <weight_decay>
    momentum : float or callable, default 0.0
        Decay :math:`\mu` of the momentum buffer, in [0, 1).
    centered : bool, default False
        Divide by the estimated standard deviation. A variance that rounding makes negative counts as 0.
    eps_inside_sqrt : bool, default False
        Add ``eps`` inside the square root.
    decoupled_weight_decay : bool, default False
        <decoupled_weight_decay>
    <options>

    Notes
    -----
    <notes>

    Epsilon is outside the root by default, as in PyTorch; Keras and Optax have it inside. The states are ``square_avg``
    (v), ``grad_avg`` (a) and ``momentum_buffer`` (b).

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5: rmsprop", COURSERA: Neural Networks for Machine Learning, 2012.
    .. [2] A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013. arXiv:1308.0850 (centered)

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0, 1.0])
    >>> optimizer = RMSprop(p, lr=0.1, alpha=0.75, eps=0.0)
    >>> optimizer.step(np.array([4.0, -0.001]))
    >>> p
    array([0.8, 1.2])
    """

    rule = "rmsprop"

    def __init__(
        self,
        params: Any,
        lr: FloatOrSchedule = 1e-2,
        alpha: FloatOrSchedule = 0.99,
        eps: FloatOrSchedule = 1e-8,
        weight_decay: FloatOrSchedule = 0.0,
        momentum: FloatOrSchedule = 0.0,
        centered: bool = False,
        eps_inside_sqrt: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**own, "centered": centered, "eps_inside_sqrt": eps_inside_sqrt}, **common)

    @staticmethod
    def _kernel(h: Mapping[str, Any]) -> str:
        return "rmsprop" + ("_centered" if h["centered"] else "") + ("_momentum" if h["momentum"] else "")
