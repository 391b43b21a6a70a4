"""RMSprop; mirrors ``csrc/rules/rmsprop.h`` and ``fastopt/reference/rmsprop.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    r"""Gradient descent with the gradient divided by a running average of its magnitude.

    .. math::
        v &\leftarrow \alpha\, v + (1 - \alpha)\, g^2, \qquad
        a \leftarrow \alpha\, a + (1 - \alpha)\, g \\
        d &= g / (\sqrt{v} + \epsilon)
        \quad \text{or, with eps\_inside\_sqrt, } g / \sqrt{v + \epsilon} \\
        p &\leftarrow p - \eta\, d
        \qquad \text{with momentum: } b \leftarrow \mu\, b + d,\ p \leftarrow p - \eta\, b

    ``centered`` puts the variance :math:`v - a^2` in place of v (what rounding makes negative counts as 0). Epsilon
    stands outside the root as in PyTorch, with ``eps_inside_sqrt`` inside as in Keras and Optax. States: ``square_avg``
    v, ``grad_avg`` a, ``momentum_buffer`` b. Parameters, options and errors are those of `fastopt.Optimizer`.
    Source: Tieleman & Hinton, "Lecture 6.5: rmsprop", 2012; centered: Graves, arXiv:1308.0850.

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
        own = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "eps_inside_sqrt": eps_inside_sqrt,
        }
        super().__init__(params, own, **common)

    @staticmethod
    def kernel(h: Mapping[str, Any]) -> str:
        """Choose by the states that the options need."""
        return "rmsprop" + ("_centered" if h["centered"] else "") + ("_momentum" if h["momentum"] else "")

    @staticmethod
    def fixed(h: Mapping[str, Any]) -> dict[str, float]:
        """Put epsilon in one of two places."""
        inside = h["eps_inside_sqrt"]
        return {
            "alpha": h["alpha"],
            "one_minus_alpha": 1.0 - h["alpha"],
            "eps_root": h["eps"] if inside else 0.0,
            "eps": 0.0 if inside else h["eps"],
            "momentum": h["momentum"],
        }

    @staticmethod
    def moving(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Let nothing but the rate move."""
        return {"step_size": lr}
