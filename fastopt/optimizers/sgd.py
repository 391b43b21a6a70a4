"""Stochastic gradient descent and momentum; mirrors ``csrc/rules/sgd.h`` and ``fastopt/reference/sgd.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SGD", "Momentum"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum in the form of PyTorch.

    .. math::
        p &\leftarrow p - \eta\, g & \text{(momentum = 0)} \\
        b &\leftarrow \mu\, b + (1 - \tau)\, g, \quad b = g \text{ at } t = 1, \qquad
        p \leftarrow p - \eta\, b & \text{(momentum } \mu \text{, dampening } \tau) \\
        p &\leftarrow p - \eta\, (g + \mu\, b) & \text{(nesterov)}

    The rate :math:`\eta` stays outside the buffer b (state ``momentum_buffer``); `Momentum` has the forms with the
    rate, or an average, inside. ``nesterov`` wants a momentum and no dampening, and
    dampening a momentum. Parameters, options and errors are
    those of `fastopt.Optimizer`. Source: Sutskever, Martens, Dahl & Hinton, "On the importance of initialization
    and momentum in deep learning", ICML 2013.

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
        own = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, own, **common)

    @staticmethod
    def kernel(h: Mapping[str, Any]) -> str:
        """Choose the plain step, or the one with a buffer."""
        if h["nesterov"] and (h["momentum"] == 0 or h["dampening"] != 0):
            raise ValueError(
                f"nesterov is True with momentum {h['momentum']} and dampening {h['dampening']}; "
                "wants momentum > 0 and dampening 0"
            )
        if h["dampening"] and not h["momentum"]:
            raise ValueError(f"dampening is {h['dampening']} with momentum 0, where it does nothing; wants dampening 0")
        return "momentum" if h["momentum"] else "sgd"

    @staticmethod
    def fixed(h: Mapping[str, Any]) -> dict[str, float]:
        """Look ahead by one more step of the buffer."""
        return {"nesterov": float(h["nesterov"]), "nesterov_buffer": h["momentum"], "nesterov_grad": 1.0}

    @staticmethod
    def moving(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Let the buffer become the gradient at the first step; a coefficient of 0 takes its term away."""
        if step == 1:
            return {"step_size": lr, "buffer_decay": 0.0, "grad_weight": 1.0}
        return {"step_size": lr, "buffer_decay": h["momentum"], "grad_weight": 1.0 - h["dampening"]}


class Momentum(Optimizer):
    r"""Gradient descent with momentum, the rate or an average inside the buffer.

    .. math::
        v &\leftarrow \gamma\, v + \eta\, g, & p &\leftarrow p - v,
        & \text{nesterov: } p &\leftarrow p - (\gamma\, v + \eta\, g) & \text{(form = "classical")} \\
        v &\leftarrow \gamma\, v + (1 - \gamma)\, g, & p &\leftarrow p - \eta\, v,
        & \text{nesterov: } p &\leftarrow p - \eta\, (\gamma\, v + (1 - \gamma)\, g) & \text{(form = "ema")}

    The forms differ as soon as the rate :math:`\eta` changes: "classical" is that of Keras and scikit-learn, "ema" the
    exponential moving average of the gradient; `SGD` has PyTorch's. The state v is ``momentum_buffer``. Parameters,
    options and errors are those of `fastopt.Optimizer`. Source: Polyak, "Some methods of speeding up the
    convergence of iteration methods", 1964; nesterov: Sutskever et al., ICML 2013.

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
    def kernel(h: Mapping[str, Any]) -> str:
        """Choose the one kernel of all forms."""
        return "momentum"

    @staticmethod
    def fixed(h: Mapping[str, Any]) -> dict[str, float]:
        """Keep the buffer in the look-ahead as in itself."""
        return {"buffer_decay": h["momentum"], "nesterov": float(h["nesterov"]), "nesterov_buffer": h["momentum"]}

    @staticmethod
    def moving(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Add once more, for the look-ahead, what enters the buffer."""
        if h["form"] == "classical":
            return {"grad_weight": lr, "nesterov_grad": lr, "step_size": 1.0}
        add = 1.0 - h["momentum"]
        return {"grad_weight": add, "nesterov_grad": add, "step_size": lr}
