"""The optimizers: hyperparameters to coefficients, in float64.

``fixed`` gives those that hold as long as the hyperparameters do, ``moving`` those of one step (counted from 1).

Each class mirrors a rule in ``csrc/update_rules.h``, which uses the coefficients, and a function in
``fastopt/reference/optimizers.py``, which has the whole formula in NumPy. What they share is in ``fastopt/base.py``.

Notation: p parameter, g gradient (divided by ``grad_scale``, clipped, negated by ``maximize``, plus weight_decay * p
unless the decay is decoupled), t the number of the step, from 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from fastopt._kernels import power
from fastopt.base import Common, Optimizer
from fastopt.hyperparameters import Varying

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SGD", "Adam", "AdamW", "Momentum", "RMSprop"]


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
    those of `fastopt.base.Optimizer`. Source: Sutskever, Martens, Dahl & Hinton, "On the importance of initialization
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
        lr: Varying = 1e-3,
        momentum: Varying = 0.0,
        dampening: Varying = 0.0,
        weight_decay: Varying = 0.0,
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
        return {"nesterov": float(h["nesterov"]), "ahead_buffer": h["momentum"], "ahead_grad": 1.0}

    @staticmethod
    def moving(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Let the buffer become the gradient at the first step; a coefficient of 0 takes its term away."""
        if step == 1:
            return {"rate": lr, "keep": 0.0, "add": 1.0}
        return {"rate": lr, "keep": h["momentum"], "add": 1.0 - h["dampening"]}


class Momentum(Optimizer):
    r"""Gradient descent with momentum, the rate or an average inside the buffer.

    .. math::
        v &\leftarrow \gamma\, v + \eta\, g, & p &\leftarrow p - v,
        & \text{nesterov: } p &\leftarrow p - (\gamma\, v + \eta\, g) & \text{(form = "classical")} \\
        v &\leftarrow \gamma\, v + (1 - \gamma)\, g, & p &\leftarrow p - \eta\, v,
        & \text{nesterov: } p &\leftarrow p - \eta\, (\gamma\, v + (1 - \gamma)\, g) & \text{(form = "ema")}

    The forms differ as soon as the rate :math:`\eta` changes: "classical" is that of Keras and scikit-learn, "ema" the
    exponential moving average of the gradient; `SGD` has PyTorch's. The state v is ``momentum_buffer``. Parameters,
    options and errors are those of `fastopt.base.Optimizer`. Source: Polyak, "Some methods of speeding up the
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
        lr: Varying = 1e-3,
        momentum: Varying = 0.9,
        weight_decay: Varying = 0.0,
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
        return {"keep": h["momentum"], "nesterov": float(h["nesterov"]), "ahead_buffer": h["momentum"]}

    @staticmethod
    def moving(h: Mapping[str, Any], lr: float, step: int) -> dict[str, float]:
        """Add once more, for the look-ahead, what enters the buffer."""
        if h["form"] == "classical":
            return {"add": lr, "ahead_grad": lr, "rate": 1.0}
        add = 1.0 - h["momentum"]
        return {"add": add, "ahead_grad": add, "rate": lr}


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
    v, ``grad_avg`` a, ``momentum_buffer`` b. Parameters, options and errors are those of `fastopt.base.Optimizer`.
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
        lr: Varying = 1e-2,
        alpha: Varying = 0.99,
        eps: Varying = 1e-8,
        weight_decay: Varying = 0.0,
        momentum: Varying = 0.0,
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
        return {"rate": lr}


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
    `fastopt.base.Optimizer`. Source: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015,
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
        lr: Varying = 1e-3,
        betas: tuple[Varying, Varying] = (0.9, 0.999),
        eps: Varying = 1e-8,
        weight_decay: Varying = 0.0,
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
        return {"rate": lr / (1.0 - power(beta1, step)), "root": 1.0 / math.sqrt(1.0 - power(beta2, step))}


class AdamW(Adam):
    r"""Adam with decoupled weight decay: :math:`p \leftarrow p\,(1 - \eta\lambda)`, then the update of `Adam`.

    The decay :math:`\lambda` (``weight_decay``) does not pass through the moments, so it acts on all parameters alike.
    It is multiplied by the rate of the step, as in PyTorch. Parameters, options and errors are those of
    `fastopt.base.Optimizer`. Source: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019,
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
        lr: Varying = 1e-3,
        betas: tuple[Varying, Varying] = (0.9, 0.999),
        eps: Varying = 1e-8,
        weight_decay: Varying = 1e-2,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        common.setdefault("decoupled_weight_decay", True)
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **common)
