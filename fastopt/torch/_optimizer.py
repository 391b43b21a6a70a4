r"""The base class of `fastopt.torch`, and the documentation that its classes share.

<params>
params : iterable of Tensor, of (name, Tensor), or of group dicts
    Parameters to update in place, as for ``torch.optim``: float32 or float64 on the CPU, dense with the axes in any
    order (``channels_last`` for example), not overlapping.

    <lr>
    Learning rate, >= 0 and finite. Schedulers of ``torch.optim.lr_scheduler`` set it. Every hyperparameter may be a
    tensor of one element, which may change in place.

    <weight_decay>
    Decay strength, >= 0 and finite; ``weight_decay * p`` is added to the gradient (L2).

<implementation>
foreach, fused : bool, optional
    Accepted for compatibility: the step is always fused.
differentiable : bool, default False
    Must be False: autograd does not pass through the step.

<maximize>
maximize : bool, default False
    Ascend instead of descend.

<capturable>
capturable : bool, default False
    Must be False: there is no graph to capture on the CPU.

<options>
max_grad_norm : float, optional
    Scale the gradients so that their global 2-norm is at most this value, > 0, as
    ``torch.nn.utils.clip_grad_norm_`` does. The gradients themselves do not change. Infinity computes ``grad_norm``
    and scales nothing.
zero_grads : bool, default False
    Set the gradients to zero in the same pass. The next ``backward`` then adds to them, so ``zero_grad`` is not needed.
ema_decay : float, optional
    Keep an exponential moving average of the parameters with this decay, in [0, 1), in ``state[p]["ema"]``. It starts
    as a copy.
nonfinite : {"propagate", "skip", "raise"}, default "propagate"
    What to do if a gradient is infinite or NaN. "propagate": update as usual, as PyTorch does. "skip": change nothing
    and count the step in ``skipped``. "raise": change nothing and raise ``FloatingPointError``.

Attributes
----------
param_groups, state, defaults
    As in PyTorch.
grad_norm : float or None
    Global norm of the last step's gradients before clipping, if it was computed.
skipped : int
    Number of steps skipped because a gradient was not finite.

Raises
------
TypeError
    If an argument has the wrong type or an option is unknown, or a parameter is on another device or has another dtype
    or layout. Nothing is modified.
ValueError
    If an argument is out of range, or parameters overlap. Nothing is modified.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, overload

import torch

import fastopt
from fastopt._util.validation import check_known
from fastopt.optimizers._docs import insert_shared_sections
from fastopt.optimizers._param_groups import CHECKS
from fastopt.torch._binding import Binding
from fastopt.torch._checks import arrays_of, hyperparameters

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT


class Options(TypedDict, total=False):
    """The options that PyTorch does not have."""

    max_grad_norm: float | None
    zero_grads: bool
    ema_decay: float | None
    nonfinite: Literal["propagate", "skip", "raise"]


OPTIONS: Options = {"max_grad_norm": None, "zero_grads": False, "ema_decay": None, "nonfinite": "propagate"}


class TorchOptimizer(torch.optim.Optimizer):
    """Base class of the optimizers, which add their signature and documentation.

    ``optimizer.state`` and ``param_groups`` are those of PyTorch, and the only data. A `Binding` to the core is made
    from them by the first step, and again after anything else has changed them.
    """

    _rule: ClassVar[type[fastopt.Optimizer]]
    _has_step: ClassVar[bool] = True  # whether PyTorch counts the steps of each parameter in ``state``

    def __init_subclass__(cls) -> None:
        if cls.__doc__:
            cls.__doc__ = insert_shared_sections(inspect.cleandoc(cls.__doc__), __doc__)

    def __init__(self, params: ParamsT, defaults: dict[str, Any], options: Options) -> None:
        check_known(type(self).__name__, options, {**defaults, **OPTIONS})
        self._rule._kernel(hyperparameters("{}", defaults))  # raises for values that exclude each other, too
        self._options = {name: CHECKS[name](name, value) for name, value in {**OPTIONS, **options}.items()}
        self._binding: Binding | None = None
        self._skipped_before = 0
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, for example layers that were frozen before.

        Parameters
        ----------
        param_group : dict
            ``{"params": ...}``, and the hyperparameters that differ from the arguments of the optimizer.

        Raises
        ------
        TypeError, ValueError
            As for the optimizer itself. Nothing is modified.
        """
        super().add_param_group(param_group)
        try:
            label = f"params[{len(self.param_groups) - 1}][{{!r}}]"
            self._rule._kernel(hyperparameters(label, self.param_groups[-1]))
            arrays_of(self.param_groups)
        except BaseException:
            self.param_groups.pop()
            raise
        self._init_state(self.param_groups[-1])

    def _init_state(self, group: dict[str, Any]) -> None:
        """Make the states that PyTorch makes before the first step, of a new group."""

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient, in place.

        Parameters
        ----------
        closure : callable, optional
            A function that computes the gradients and returns the loss.

        Returns
        -------
        float or None
            The result of ``closure``, usually a tensor.

        Raises
        ------
        TypeError, ValueError
            If a gradient, a hyperparameter or a state cannot be used. Nothing is modified.
        FloatingPointError
            If a gradient is not finite and ``nonfinite="raise"``. Nothing is modified.
        OverflowError
            If gradients are finite but their norm is beyond float64 and ``max_grad_norm`` is finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    @torch.compiler.disable  # type: ignore  # it has no types; mypy changes the name of this error
    def _step(self) -> None:
        """Step outside of what ``torch.compile`` traces: tensors that it works with have no memory."""
        if self._binding is None or not self._binding.is_current(self):
            self._binding = Binding(self)
        self._binding.step()

    @property
    def grad_norm(self) -> float | None:
        """The global norm of the last step's gradients before clipping; None if it was not computed."""
        return None if self._binding is None else self._binding.plan.norm

    @property
    def skipped(self) -> int:
        """The number of steps that were skipped because a gradient was not finite."""
        return self._skipped_before if self._binding is None else self._binding.plan.skipped

    # Copying, pickling and load_state_dict use these two

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_options": self._options, "_skipped_before": self.skipped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_binding" in vars(self):
            self._skipped_before = self.skipped
        super().__setstate__({"_binding": None, **state})
        for group in self.param_groups:
            for name, value in self.defaults.items():  # saved by another version of PyTorch
                group.setdefault(name, value)
