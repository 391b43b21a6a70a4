"""Adam and AdamW; mirrors ``csrc/rules/adam.h`` and ``fastopt/reference/adam.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastopt import _core
from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    r"""Adam: gradient descent by the running mean of the gradient over the root of that of its square.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad
        v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \\
        p &\leftarrow p - \eta\, \frac{m}{1 - \beta_1^t} \Big/
        \Big(\sqrt{\frac{v}{1 - \beta_2^t}} + \epsilon\Big)

    ``amsgrad`` puts the greatest v so far in place of v in the denominator. Epsilon stands outside the root and behind
    the bias correction, as in the paper's algorithm and in PyTorch. Weight decay is coupled (L2); see `AdamW`. States:
    ``exp_avg`` m, ``exp_avg_sq`` v, ``max_exp_avg_sq``. Parameters, options and errors are those of
    `fastopt.Optimizer`. Source: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015,
    arXiv:1412.6980; amsgrad: Reddi, Kale & Kumar, "On the convergence of Adam and beyond", ICLR 2018.

    >>> import numpy as np
    >>> p = np.array([1.0, 1.0])
    >>> optimizer = Adam(p, lr=0.5, eps=0.0)
    >>> optimizer.step(np.array([3.0, -100.0]))  # the first step has the size of the rate
    >>> p.round(12)
    array([0.5, 1.5])
    """

    rule = "adam"

    def __init__(
        self,
        params: Any,
        lr: FloatOrSchedule = 1e-3,
        betas: tuple[FloatOrSchedule, FloatOrSchedule] = (0.9, 0.999),
        eps: FloatOrSchedule = 1e-8,
        weight_decay: FloatOrSchedule = 0.0,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, own, **common)

    @staticmethod
    def kernel(h: Mapping[str, Any]) -> str:
        """Choose by the one more state of AMSGrad."""
        return "amsgrad" if h["amsgrad"] else "adam"

    @staticmethod
    def fixed(h: Mapping[str, Any]) -> dict[str, float]:
        """Round the complements of the betas once, too."""
        beta1, beta2 = h["betas"]
        return {
            "beta1": beta1,
            "one_minus_beta1": 1.0 - beta1,
            "beta2": beta2,
            "one_minus_beta2": 1.0 - beta2,
            "eps": h["eps"],
        }

    @staticmethod
    def moving(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Fold the bias corrections into the rate and a factor of the root."""
        beta1, beta2 = h["betas"]
        return {
            "step_size": lr / (1.0 - _core.power(beta1, step)),
            "inv_sqrt_bias2": 1.0 / math.sqrt(1.0 - _core.power(beta2, step)),
        }


class AdamW(Adam):
    r"""Adam with decoupled weight decay: :math:`p \leftarrow p\,(1 - \eta\lambda)`, then the update of `Adam`.

    The decay :math:`\lambda` (``weight_decay``) does not pass through the moments, so it acts on all parameters alike.
    It is multiplied by the rate of the step, as in PyTorch. Parameters, options and errors are those of
    `fastopt.Optimizer`. Source: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019,
    arXiv:1711.05101.

    >>> import numpy as np
    >>> p = np.array([8.0])
    >>> optimizer = AdamW(p, lr=0.5, weight_decay=0.5)
    >>> optimizer.step(np.zeros(1))
    >>> p
    array([6.])
    """

    def __init__(
        self,
        params: Any,
        lr: FloatOrSchedule = 1e-3,
        betas: tuple[FloatOrSchedule, FloatOrSchedule] = (0.9, 0.999),
        eps: FloatOrSchedule = 1e-8,
        weight_decay: FloatOrSchedule = 1e-2,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        common.setdefault("decoupled_weight_decay", True)
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **common)
