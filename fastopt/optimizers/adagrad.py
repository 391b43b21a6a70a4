"""Adagrad; mirrors ``csrc/rules/adagrad.h`` and ``fastopt/reference/adagrad.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._base import Optimizer
from fastopt.optimizers._options import Common

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    r"""Adagrad: the gradient divided by the root of the sum of all squared gradients.

    For a parameter p with gradient g, in step t = 1, 2, ...:

    .. math::
        s &\leftarrow s + g^2 \\
        p &\leftarrow p - \frac{\eta}{1 + (t - 1)\, \delta} \cdot \frac{g}{\sqrt{s} + \epsilon}

    Parameters
    ----------
    <params>
    lr : float or callable, default 1e-2
        <lr>
    lr_decay : float or callable, default 0.0
        Decay :math:`\delta` of the learning rate, >= 0 and finite. The attribute ``lr`` is the rate before this decay;
        decoupled weight decay follows the rate after it.
    weight_decay : float or callable, default 0.0
        <weight_decay>
    initial_accumulator_value : float, default 0.0
        Start value of the sum s, >= 0 and finite. Can differ between groups. It is not in ``param_groups``, because a
        later change would have no effect.
    eps : float or callable, default 1e-10
        Term :math:`\epsilon` added to the denominator, >= 0 and finite.
    decoupled_weight_decay : bool, default False
        <decoupled_weight_decay>
    <options>

    Notes
    -----
    <notes>

    The formula, the defaults and the name of the state ``sum`` (s) are PyTorch's. Keras and Optax add epsilon inside
    the root, start the sum at 0.1 and have no ``lr_decay``. The sum never decreases, so steps become smaller and
    smaller; `RMSprop` has a moving average in its place.

    References
    ----------
    .. [1] J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
       Optimization", JMLR 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0, 1.0])
    >>> optimizer = Adagrad(p, lr=0.5, eps=0.0)
    >>> for grad in (np.array([3.0, -0.1]), np.array([4.0, 0.0])):
    ...     optimizer.step(grad)
    ...     print(p.round(12))
    [0.5 1.5]
    [0.1 1.5]
    """

    rule = "adagrad"
    _start_values: ClassVar = {"sum": "initial_accumulator_value"}

    def __init__(
        self,
        params: Any,
        lr: FloatOrSchedule = 1e-2,
        lr_decay: FloatOrSchedule = 0.0,
        weight_decay: FloatOrSchedule = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: FloatOrSchedule = 1e-10,
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**own, "initial_accumulator_value": initial_accumulator_value}, **common)

    @staticmethod
    def _kernel(h: Mapping[str, Any]) -> str:
        return "adagrad"
