"""Gradient descent and momentum; mirrors ``csrc/rules/sgd.h`` and ``fastopt/reference/sgd.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._base import Optimizer
from fastopt.optimizers._options import Common

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SGD", "Momentum"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with PyTorch's form of momentum.

    .. math::
        p &\leftarrow p - \eta\, g & \text{(momentum = 0)} \\
        b &\leftarrow \mu\, b + (1 - \tau)\, g, \quad b = g \text{ at } t = 1, \qquad
        p \leftarrow p - \eta\, b & \text{(momentum } \mu \text{, dampening } \tau) \\
        p &\leftarrow p - \eta\, (g + \mu\, b) & \text{(nesterov)}

    Parameters
    ----------
    <params>
    lr : float or callable, default 1e-3
        <lr>
    momentum : float or callable, default 0.0
        Decay :math:`\mu` of the momentum buffer, in [0, 1).
    dampening : float or callable, default 0.0
        Dampening :math:`\tau` of the gradient, in [0, 1]; it requires a momentum.
    weight_decay : float or callable, default 0.0
        <weight_decay>
    nesterov : bool, default False
        Use Nesterov's look-ahead; it requires a momentum and no dampening.
    decoupled_weight_decay : bool, default False
        <decoupled_weight_decay>
    <options>

    Notes
    -----
    <notes>

    The learning rate stays outside the buffer (state ``momentum_buffer``), as in PyTorch. `Momentum` has the forms with
    the rate, or an average, inside; they differ as soon as the rate changes.

    References
    ----------
    .. [1] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in deep
       learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0, 2.0], dtype=np.float32)
    >>> optimizer = SGD(p, lr=0.5)
    >>> optimizer.step(np.array([1.0, -1.0], dtype=np.float32))
    >>> p
    array([0.5, 2.5], dtype=float32)
    """

    rule = "sgd"

    def __init__(
        self,
        params: Any,
        lr: FloatOrSchedule = 1e-3,
        momentum: FloatOrSchedule = 0.0,
        dampening: FloatOrSchedule = 0.0,
        weight_decay: FloatOrSchedule = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**own, "nesterov": nesterov}, **common)

    @staticmethod
    def _kernel(h: Mapping[str, Any]) -> str:
        if h["nesterov"] and (h["momentum"] == 0 or h["dampening"] != 0):
            raise ValueError(
                "nesterov must be False without a momentum or with a dampening, "
                f"got True with momentum {h['momentum']} and dampening {h['dampening']}"
            )
        if h["dampening"] and not h["momentum"]:
            raise ValueError(f"dampening must be 0 without a momentum, got {h['dampening']}")
        return "momentum" if h["momentum"] else "sgd"


class Momentum(Optimizer):
    r"""Gradient descent with momentum: the learning rate, or an average, is inside the buffer.

    .. math::
        v &\leftarrow \gamma\, v + \eta\, g, & p &\leftarrow p - v,
        & \text{nesterov: } p &\leftarrow p - (\gamma\, v + \eta\, g) & \text{(form = "classical")} \\
        v &\leftarrow \gamma\, v + (1 - \gamma)\, g, & p &\leftarrow p - \eta\, v,
        & \text{nesterov: } p &\leftarrow p - \eta\, (\gamma\, v + (1 - \gamma)\, g) & \text{(form = "ema")}

    Parameters
    ----------
    <params>
    lr : float or callable, default 1e-3
        <lr>
    momentum : float or callable, default 0.9
        Decay :math:`\gamma` of the buffer, in [0, 1).
    weight_decay : float or callable, default 0.0
        <weight_decay>
    nesterov : bool, default False
        Use Nesterov's look-ahead, with the new buffer.
    form : {"classical", "ema"}, default "classical"
        "classical" is the form of Keras and scikit-learn; "ema" is the exponential moving average of the gradient.
    decoupled_weight_decay : bool, default False
        <decoupled_weight_decay>
    <options>

    Notes
    -----
    <notes>

    The forms differ as soon as the learning rate :math:`\eta` changes. PyTorch's form is `SGD`. The buffer v is the
    state ``momentum_buffer``.

    References
    ----------
    .. [1] B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    .. [2] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in deep
       learning", ICML 2013 (Nesterov's form).

    Examples
    --------
    >>> import numpy as np
    >>> p, g = np.zeros(1), np.ones(1)
    >>> optimizer = Momentum(p, lr=1.0, momentum=0.5)
    >>> for _ in range(3):
    ...     optimizer.step(g)
    ...     print(p)
    [-1.]
    [-2.5]
    [-4.25]
    """

    rule = "momentum"

    def __init__(
        self,
        params: Any,
        lr: FloatOrSchedule = 1e-3,
        momentum: FloatOrSchedule = 0.9,
        weight_decay: FloatOrSchedule = 0.0,
        nesterov: bool = False,
        form: Literal["classical", "ema"] = "classical",
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov, "form": form}
        super().__init__(params, own, **common)

    @staticmethod
    def _kernel(h: Mapping[str, Any]) -> str:
        return "momentum"
