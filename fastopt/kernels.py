"""The bare in-place calls, for those who keep their own states: one function for each rule.

``kernels.adam(param, grad, exp_avg, exp_avg_sq, step=t, lr=1e-3)`` does step t (counted from 1) of `fastopt.Adam` on
one tensor. The states follow ``param`` and ``grad``, by position or by name; ``scale`` multiplies the gradient first;
the hyperparameters are those of the class. `fastopt.reference` has the same functions, with the same signatures, in
NumPy.

The functions are made from the classes and those signatures, so a new optimizer has its bare call for nothing.

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

from fastopt import _kernels, optimizers, reference
from fastopt.base import Optimizer
from fastopt.hyperparameters import CHECKS, finite, non_negative, refuse_unknown, step_number

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., None]: ...


def _bare(cls: type[Optimizer]) -> Callable[..., None]:
    rule = cls.rule
    signature = inspect.signature(getattr(reference, rule))
    streams = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    defaults = {
        p.name: p.default for p in signature.parameters.values() if p.name in CHECKS and p.kind is p.KEYWORD_ONLY
    }

    def kernel(*arrays: Any, step: int, scale: float = 1.0, **named: Any) -> None:
        if len(arrays) > len(streams):
            raise TypeError(f"kernels.{rule} got {len(arrays)} arrays; wants at most {', '.join(streams)}")
        given = dict(zip(streams, arrays, strict=False))
        given |= {name: named.pop(name) for name in streams if name in named}
        refuse_unknown(f"kernels.{rule}", named, defaults)
        h = {**defaults, **{name: CHECKS[name](name, value) for name, value in named.items()}}
        info = _kernels.KERNELS[cls.kernel(h)]
        given = {name: array for name, array in given.items() if array is not None}
        if set(given) != set(info.streams):
            raise TypeError(
                f"kernels.{rule} got {', '.join(given)}; wants {', '.join(info.streams)} for these hyperparameters"
            )
        values = cls.all_coefficients(h, non_negative("lr", h["lr"]), step_number("step", step), finite("scale", scale))
        grad = given.pop("grad")
        plan = _kernels.Plan([((cls.kernel(h),), [("", given)])], {})
        plan.step([grad], [[values[name] for name in info.coefficients]])

    kernel.__name__ = kernel.__qualname__ = rule
    kernel.__doc__ = f"Do one step of `fastopt.{cls.__name__}` on one tensor, in place; see there for the formula."
    kernel.__signature__ = signature  # type: ignore[attr-defined]
    return kernel


for _name in optimizers.__all__:
    _class = getattr(optimizers, _name)
    if "rule" in vars(_class):
        globals()[_class.rule] = _bare(_class)
