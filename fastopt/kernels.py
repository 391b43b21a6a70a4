"""Plain in-place functions, one for each rule, if you manage the states yourself.

``kernels.adam(param, grad, exp_avg, exp_avg_sq, step=t, lr=1e-3)`` does step t (counted from 1) of `fastopt.Adam` on
one array. The states follow ``param`` and ``grad``, by position or by name; ``scale`` multiplies the gradient first;
the hyperparameters are those of the class. `fastopt.reference` has the same functions in NumPy.

A call checks all of its arrays, and on a small array takes about 0.5 us longer than a step of an optimizer, which has
checked them once. Hyperparameters other than ``lr`` and ``scale`` are checked when they change; such a call takes 5 us.
For many small arrays, use an optimizer and a `fastopt.Flat`.

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

KNOWN = 8  # sets of hyperparameters that are remembered; a search among them takes 0.1 us
STATES = "The arrays must be those that the hyperparameters need, or `TypeError` is raised."

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., None]:
        raise AttributeError(name)


def _kernel_function(cls: type[Optimizer]) -> Callable[..., None]:
    """Return the function of a class, with the signature of its reference."""
    name = f"kernels.{cls.rule}"
    signature = inspect.signature(getattr(reference, cls.rule))
    parameters = signature.parameters.values()
    places = {parameter.name: i for i, parameter in enumerate(parameters)}
    defaults = [parameter.default for parameter in parameters]
    first = places["step"]  # past the arrays; step, scale and lr are followed by the other hyperparameters
    operands, others = tuple(places)[:first], tuple(places)[first + 3 :]
    checked_scale, checked_lr = defaults[first + 1], defaults[first + 2]
    known: list[_core.BoundKernel] = []  # for the latest sets of the other hyperparameters

    def bound_kernel(values: list[Any]) -> _core.BoundKernel:
        """Return a kernel for some hyperparameters, which are checked."""
        h = {name: CHECKS[name](name, value) for name, value in zip(others, values, strict=True)}
        kernel = _core.BoundKernel(name, operands, cls._kernel(h), h, cls._all_static_coefficients(h))
        known.insert(0, kernel)
        del known[KNOWN:]
        return kernel

    def call(*arrays: Any, **named: Any) -> None:
        nonlocal checked_scale, checked_lr
        values = _core.arguments_in_order(places, defaults, first, arrays, named)
        if values is None:
            try:
                signature.bind(*arrays, **named)
            except TypeError as error:
                expected = inspect.Signature([own.replace(annotation=own.empty) for own in parameters])  # without types
                raise TypeError(f"{name} must be called as {cls.rule}{expected}: {error}") from None
        step, scale, lr = positive_count("step", values[first]), values[first + 1], values[first + 2]
        if scale is not checked_scale:
            scale = checked_scale = finite("scale", scale)
        if lr is not checked_lr:
            lr = checked_lr = CHECKS["lr"]("lr", lr)
        kernel = _core.find_kernel(known, values, first + 3) or bound_kernel(values[first + 3 :])
        h = kernel.h
        coefficients = cls._all_step_coefficients(h, lr, step)
        coefficients["scale"] = -scale if h["maximize"] else scale
        kernel.step(values, coefficients)

    call.__name__ = call.__qualname__ = cls.rule
    call.__doc__ = f"{inspect.getdoc(getattr(reference, cls.rule))}\n\n{STATES}"
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


_CLASSES = [cls for cls in (getattr(optimizers, name) for name in optimizers.__all__) if "rule" in vars(cls)]
__all__ = [cls.rule for cls in _CLASSES]
globals().update({cls.rule: _kernel_function(cls) for cls in _CLASSES})
