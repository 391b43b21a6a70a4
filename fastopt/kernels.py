"""Plain in-place functions, one for each rule, if you manage the states yourself.

``kernels.adam(param, grad, exp_avg, exp_avg_sq, step=t, lr=1e-3)`` does step t (counted from 1) of `fastopt.Adam` on
one array. The states follow ``param`` and ``grad``, by position or by name; ``scale`` multiplies the gradient first;
the hyperparameters are those of the class. `fastopt.reference` has the same functions in NumPy.

A call checks all of its arrays and takes about 12 us more than a step of an optimizer, which has checked them once. For
many small arrays, use an optimizer and a `fastopt.Flat`.

>>> import numpy as np
>>> from fastopt import kernels
>>> param, grad, buffer = np.zeros(2), np.ones(2), np.zeros(2)
>>> for step in (1, 2):
...     kernels.momentum(param, grad, buffer, step=step, lr=1.0, momentum=0.5)
>>> param
array([-2.5, -2.5])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastopt import _core, optimizers, reference
from fastopt._util.validation import finite, positive_count
from fastopt.optimizers import Optimizer
from fastopt.optimizers._param_groups import CHECKS
from fastopt.reference._common import Array, State  # noqa: F401  the annotations of the rules

STATES = "The arrays must be those that the hyperparameters need, or `TypeError` is raised."

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., None]:
        raise AttributeError(name)


def _kernel_function(cls: type[Optimizer]) -> Callable[..., None]:
    """Return the function of a class, with the signature of its reference."""
    signature = inspect.signature(getattr(reference, cls.rule))
    parameters = signature.parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    positional = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    required = {parameter.name for parameter in parameters if parameter.default is parameter.empty}

    def call(*arrays: Any, **named: Any) -> None:
        given = dict(zip(positional, arrays, strict=False), **named)
        if len(given) != len(arrays) + len(named) or not required <= given.keys() <= defaults.keys():
            try:  # to find the reason; in each call, this would cost more than a small step
                signature.bind(*arrays, **named)
            except TypeError as error:
                expected = inspect.Signature([own.replace(annotation=own.empty) for own in parameters])  # without types
                raise TypeError(f"kernels.{cls.rule} must be called as {cls.rule}{expected}: {error}") from None
        arguments = {**defaults, **given}
        step, scale = positive_count("step", arguments.pop("step")), finite("scale", arguments.pop("scale"))
        h = {name: CHECKS[name](name, arguments.pop(name)) for name in list(arguments) if name in CHECKS}
        operands = {name: array for name, array in arguments.items() if array is not None}
        kernel = cls._kernel(h)
        needed = _core.KERNELS[kernel].operands
        if set(operands) != set(needed):
            names, got = ", ".join(needed), ", ".join(operands)
            raise TypeError(f"kernels.{cls.rule} must have {names} for these hyperparameters, got {got}")
        grad = operands.pop("grad")
        plan = _core.Plan([((kernel,), [("", None, operands)])], {}, None, None, None, "propagate", False)
        plan.set_coefficients(0, cls._all_static_coefficients(h, scale))
        plan.step([grad], None, lambda: [cls._all_step_coefficients(h, h["lr"], step)])

    call.__name__ = call.__qualname__ = cls.rule
    call.__doc__ = f"{inspect.getdoc(getattr(reference, cls.rule))}\n\n{STATES}"
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


_CLASSES = [cls for cls in (getattr(optimizers, name) for name in optimizers.__all__) if "rule" in vars(cls)]
__all__ = [cls.rule for cls in _CLASSES]
globals().update({cls.rule: _kernel_function(cls) for cls in _CLASSES})
