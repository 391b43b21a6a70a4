"""Adam, AMSGrad and AdamW; mirrors ``csrc/rules/adam.h`` and ``fastopt/reference/adam.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastopt._util.validation import FloatOrSchedule
from fastopt.optimizers._base import Optimizer
from fastopt.optimizers._options import Common

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    r"""Adam optimizer with bias correction.

    For a parameter p with gradient g, in step t = 1, 2, ...:

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad
        v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \\
        p &\leftarrow p - \eta\, \frac{m}{1 - \beta_1^t} \Big/
        \Big(\sqrt{\frac{v}{1 - \beta_2^t}} + \epsilon\Big)

    Parameters
    ----------
    <params>
    lr : float or callable, default 1e-3
        <lr>
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Decays :math:`\beta_1, \beta_2` of the averages of the gradient and its square, in [0, 1).
    eps : float or callable, default 1e-8
        Term :math:`\epsilon` added to the denominator, >= 0 and finite.
    weight_decay : float or callable, default 0.0
        <weight_decay>
    amsgrad : bool, default False
        Divide by the largest :math:`v` so far.
    eps_hat : bool, default False
        Add ``eps`` before the bias correction: divide by :math:`(\sqrt{v} + \epsilon) / \sqrt{1 - \beta_2^t}`.
    decoupled_weight_decay : bool, default False
        <decoupled_weight_decay>
    <options>

    Notes
    -----
    <notes>

    Epsilon is added outside the root and after the bias correction, as in the paper's algorithm, PyTorch and Optax.
    TensorFlow, Keras, scikit-learn, thinc and many textbooks add it before the correction, which the paper calls
    "epsilon hat": use ``eps_hat=True``, with their default of ``eps`` (1e-7 in Keras, 1e-8 in scikit-learn). The same
    ``eps`` then damps the first steps more. AMSGrad takes the maximum before the bias correction, as PyTorch and Keras
    do. The states are ``exp_avg`` (m), ``exp_avg_sq`` (v) and with AMSGrad ``max_exp_avg_sq``.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. arXiv:1412.6980
    .. [2] S. J. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018 (AMSGrad).

    Examples
    --------
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
        eps_hat: bool = False,
        **common: Unpack[Common],
    ) -> None:
        own = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**own, "amsgrad": amsgrad, "eps_hat": eps_hat}, **common)

    @staticmethod
    def _kernel(h: Mapping[str, Any]) -> str:
        return "amsgrad" if h["amsgrad"] else "adam"


class AdamW(Adam):
    r"""Adam with decoupled weight decay.

    For a parameter p with gradient g, in step t = 1, 2, ...:

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad
        v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \\
        p &\leftarrow p\, (1 - \eta\lambda) - \eta\, \frac{m}{1 - \beta_1^t} \Big/
        \Big(\sqrt{\frac{v}{1 - \beta_2^t}} + \epsilon\Big)

    Parameters
    ----------
    <params>
    lr : float or callable, default 1e-3
        <lr>
    betas : tuple of two floats or callables, default (0.9, 0.999)
        Decays :math:`\beta_1, \beta_2` of the averages of the gradient and its square, in [0, 1).
    eps : float or callable, default 1e-8
        Term :math:`\epsilon` added to the denominator, >= 0 and finite.
    weight_decay : float or callable, default 1e-2
        Decay strength :math:`\lambda`, >= 0 and finite.
    amsgrad : bool, default False
        Divide by the largest :math:`v` so far.
    eps_hat : bool, default False
        Add ``eps`` before the bias correction: divide by :math:`(\sqrt{v} + \epsilon) / \sqrt{1 - \beta_2^t}`.
    decoupled_weight_decay : bool, default True
        <decoupled_weight_decay>
    <options>

    Notes
    -----
    <notes>

    The decay does not pass through the averages, so it acts on all parameters alike. It is multiplied by the rate of
    the step, as in PyTorch. Epsilon is added outside the root and after the bias correction, as in PyTorch and Optax;
    Keras adds it before the correction (``eps_hat=True``). The states are ``exp_avg`` (m), ``exp_avg_sq`` (v) and with
    AMSGrad ``max_exp_avg_sq``.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. arXiv:1711.05101

    Examples
    --------
    >>> import fastopt
    >>> import numpy as np
    >>> p = np.array([8.0])
    >>> optimizer = AdamW(p, lr=0.5, weight_decay=0.5)
    >>> optimizer.step(np.zeros(1))
    >>> p
    array([6.])

    Groups, a schedule, clipping, and saving:

    >>> params = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
    >>> groups = [{"params": {"w": params["w"]}}, {"params": {"b": params["b"]}, "weight_decay": 0.0}]
    >>> rate = fastopt.schedules.Warmup(fastopt.schedules.Cosine(1e-3, decay_steps=900), warmup_steps=100)
    >>> optimizer = AdamW(groups, lr=rate, max_grad_norm=1.0)
    >>> optimizer.step([{"w": np.ones((2, 3), np.float32)}, {"b": np.ones(3, np.float32)}])
    >>> round(optimizer.grad_norm, 6)  # before clipping
    3.0
    >>> fastopt.save("run.npz", params=params, optimizer=optimizer)  # doctest: +SKIP
    >>> fastopt.load("run.npz", params=params, optimizer=optimizer)  # in another process  # doctest: +SKIP
    """

    def __init__(
        self,
        params: Any,
        lr: FloatOrSchedule = 1e-3,
        betas: tuple[FloatOrSchedule, FloatOrSchedule] = (0.9, 0.999),
        eps: FloatOrSchedule = 1e-8,
        weight_decay: FloatOrSchedule = 1e-2,
        amsgrad: bool = False,
        eps_hat: bool = False,
        **common: Unpack[Common],
    ) -> None:
        common.setdefault("decoupled_weight_decay", True)
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, eps_hat, **common)
