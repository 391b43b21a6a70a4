"""The optimizers: the signatures of PyTorch's classes, and their documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import fastopt
from fastopt.torch._optimizer import Options, TorchOptimizer

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]


class SGD(TorchOptimizer):
    r"""Stochastic gradient descent with momentum, as ``torch.optim.SGD``; the formula is that of `fastopt.SGD`.

    Parameters
    ----------
    <params>
    lr : float or Tensor, default 1e-3
        <lr>
    momentum : float, default 0
        Decay of the momentum buffer, in [0, 1). The state is ``momentum_buffer``.
    dampening : float, default 0
        Dampening of the gradient in the buffer, in [0, 1]; it requires a momentum.
    weight_decay : float, default 0
        <weight_decay>
    nesterov : bool, default False
        Use Nesterov's look-ahead; it requires a momentum and no dampening.
    <maximize>
    <implementation>
    <options>

    Examples
    --------
    >>> import torch, fastopt.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = fastopt.torch.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.0, 0.0]
    """

    _rule = fastopt.SGD
    _has_step = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults, options)


class RMSprop(TorchOptimizer):
    """RMSprop, as ``torch.optim.RMSprop``; the formula is that of `fastopt.RMSprop`.

    Parameters
    ----------
    <params>
    lr : float or Tensor, default 1e-2
        <lr>
    alpha : float, default 0.99
        Decay of the averages, in [0, 1). The states are ``square_avg`` and, if centered, ``grad_avg``.
    eps : float, default 1e-8
        Term added to the denominator, >= 0 and finite.
    weight_decay : float, default 0
        <weight_decay>
    momentum : float, default 0
        Decay of the state ``momentum_buffer``, in [0, 1).
    centered : bool, default False
        Divide by the estimated standard deviation.
    <capturable>
    <implementation>
    <maximize>
    <options>

    Examples
    --------
    >>> import torch, fastopt.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> optimizer = fastopt.torch.RMSprop([w], lr=0.25, alpha=0.75, eps=0.0)
    >>> (w * torch.tensor([4.0, -0.125])).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.5, 1.5]
    """

    _rule = fastopt.RMSprop

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, options)


class Adagrad(TorchOptimizer):
    """Adagrad, as ``torch.optim.Adagrad``; the formula is that of `fastopt.Adagrad`.

    Parameters
    ----------
    <params>
    lr : float or Tensor, default 1e-2
        <lr>
    lr_decay : float, default 0
        Decay of the learning rate, >= 0 and finite: step t divides it by ``1 + (t - 1) * lr_decay``.
    weight_decay : float, default 0
        <weight_decay>
    initial_accumulator_value : float, default 0
        Start value of the state ``sum``, >= 0 and finite.
    eps : float, default 1e-10
        Term added to the denominator, >= 0 and finite.
    <implementation>
    <maximize>
    <options>

    Notes
    -----
    As in PyTorch, states exist before the first step.

    Examples
    --------
    >>> import torch, fastopt.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> optimizer = fastopt.torch.Adagrad([w], lr=0.5, eps=0.0)
    >>> (w * torch.tensor([3.0, -0.125])).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.5, 1.5]
    """

    _rule = fastopt.Adagrad

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults, options)

    def _init_state(self, group: dict[str, Any]) -> None:
        for param in group["params"]:
            start = torch.full_like(param, group["initial_accumulator_value"], memory_format=torch.preserve_format)
            self.state[param].update(step=torch.tensor(0.0, dtype=torch.float32), sum=start)


class Adam(TorchOptimizer):
    """Adam, as ``torch.optim.Adam``; the formula is that of `fastopt.Adam`.

    Parameters
    ----------
    <params>
    lr : float or Tensor, default 1e-3
        <lr>
    betas : tuple of two floats or Tensors, default (0.9, 0.999)
        Decays of the averages of the gradient (state ``exp_avg``) and its square (``exp_avg_sq``), in [0, 1).
    eps : float, default 1e-8
        Term added to the denominator after the bias correction, >= 0 and finite.
    weight_decay : float, default 0
        <weight_decay>
    amsgrad : bool, default False
        Divide by the largest average so far, the state ``max_exp_avg_sq``.
    foreach : bool, optional
        Accepted for compatibility: the step is always fused.
    <maximize>
    <capturable>
    differentiable : bool, default False
        Must be False: autograd does not pass through the step.
    fused : bool, optional
        Accepted for compatibility: the step is always fused.
    decoupled_weight_decay : bool, default False
        Multiply the parameter by ``1 - lr * weight_decay`` instead, as `AdamW` does.
    <options>

    Examples
    --------
    >>> import torch, fastopt.torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> optimizer = fastopt.torch.Adam([w], lr=0.5, eps=0.0)
    >>> (w * torch.tensor([3.0, -100.0])).sum().backward()
    >>> optimizer.step()  # the first step has the size of the rate
    >>> [round(x, 6) for x in w.tolist()]
    [0.5, 1.5]
    """

    _rule = fastopt.Adam

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, options)


class AdamW(Adam):
    """Adam with decoupled weight decay, as ``torch.optim.AdamW``; the formula is that of `fastopt.AdamW`.

    Parameters
    ----------
    <params>
    lr : float or Tensor, default 1e-3
        <lr>
    betas : tuple of two floats or Tensors, default (0.9, 0.999)
        Decays of the averages of the gradient (state ``exp_avg``) and its square (``exp_avg_sq``), in [0, 1).
    eps : float, default 1e-8
        Term added to the denominator after the bias correction, >= 0 and finite.
    weight_decay : float, default 1e-2
        Decay strength, >= 0 and finite: the parameter is multiplied by ``1 - lr * weight_decay``.
    amsgrad : bool, default False
        Divide by the largest average so far, the state ``max_exp_avg_sq``.
    <maximize>
    foreach : bool, optional
        Accepted for compatibility: the step is always fused.
    <capturable>
    differentiable : bool, default False
        Must be False: autograd does not pass through the step.
    fused : bool, optional
        Accepted for compatibility: the step is always fused.
    <options>

    Examples
    --------
    Train with a scheduler and clipping:

    >>> import torch, fastopt.torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = fastopt.torch.AdamW(model.parameters(), lr=0.1, max_grad_norm=1.0)
    >>> scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    >>> x = torch.randn(64, 3)
    >>> y = x.sum(1, keepdim=True)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     loss = torch.nn.functional.mse_loss(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    ...     scheduler.step()
    >>> float(loss.detach()) < 0.01
    True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
            **options,
        )

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(dict(state))
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # also with the state of an Adam, as in PyTorch
