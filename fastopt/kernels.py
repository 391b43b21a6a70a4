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
from typing import TYPE_CHECKING, Any, NoReturn

from fastopt import _core, optimizers, reference
from fastopt._util.validation import finite, step_number
from fastopt.optimizers._base import Optimizer
from fastopt.optimizers._param_groups import CHECKS

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., None]: ...


_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_tuners: dict[tuple[str, int, int], _core.Tuner] = {}


def _explain(rule: str, signature: inspect.Signature, arrays: Any, named: Any) -> NoReturn:
    """Raise for arguments that don't fit a signature; ``bind`` knows why, but takes longer than a small step."""
    try:
        signature.bind(*arrays, **named)
    except TypeError as error:
        raise TypeError(f"kernels.{rule}: {error}; wants {signature}") from None
    raise AssertionError("the arguments fit")


def _bare(cls: type[Optimizer]) -> Callable[..., None]:
    signature = inspect.signature(getattr(reference, cls.rule))
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    positional = [name for name, parameter in signature.parameters.items() if parameter.kind is _POSITIONAL]
    required = {name for name, default in defaults.items() if default is inspect.Parameter.empty}

    def call(*arrays: Any, **named: Any) -> None:
        given = dict(zip(positional, arrays, strict=False), **named)
        if len(given) != len(arrays) + len(named) or not required <= given.keys() <= defaults.keys():
            _explain(cls.rule, signature, arrays, named)
        arguments = {**defaults, **given}
        h = {name: CHECKS[name](name, value) for name, value in arguments.items() if name in CHECKS}
        kernel = cls.kernel(h)
        streams = {
            name: value for name, value in arguments.items() if name not in (*h, "step", "scale") and value is not None
        }
        wanted = _core.KERNELS[kernel].operands
        if set(streams) != set(wanted):
            raise TypeError(
                f"kernels.{cls.rule} got {', '.join(streams)}; wants {', '.join(wanted)} for these hyperparameters"
            )
        step, scale = step_number("step", arguments["step"]), finite("scale", arguments["scale"])
        grad = streams.pop("grad")
        plan = _core.Plan([((kernel,), [("", streams)])], {})
        # The choice of threads is remembered from call to call, for all arrays of about the same size.
        plan.tuner = _tuners.setdefault((kernel, *plan.size_class), plan.tuner)
        plan.set(0, cls.all_fixed(h, scale))
        plan.step([grad], cls.all_moving([h], step - 1))

    call.__name__ = call.__qualname__ = cls.rule
    call.__doc__ = f"Compiled, with the same bits and signature: {inspect.getdoc(getattr(reference, cls.rule))}"
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


_CLASSES = [cls for cls in (getattr(optimizers, name) for name in optimizers.__all__) if "rule" in vars(cls)]
__all__ = [cls.rule for cls in _CLASSES]
globals().update({cls.rule: _bare(cls) for cls in _CLASSES})
