"""Every kernel again in plain NumPy, with the same bits as the compiled one.

The rules (`adagrad`, `adam`, `momentum`, `rmsprop`, `sgd`) have the signatures of `fastopt.kernels`; `whole_step` adds
the other stages of a step. The modules `losses`, `layers` and `augment` have the functions of the public modules of
these names, whose docstrings describe the arguments. Read this package to see which formula is computed, and in which
order; use it in tests as the expected result. It checks no arguments and is slow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastopt.reference._common import clip_factor, ema, power, sum_squares, whole_step
from fastopt.reference.adagrad import adagrad
from fastopt.reference.adam import adam
from fastopt.reference.rmsprop import rmsprop
from fastopt.reference.sgd import momentum, sgd

if TYPE_CHECKING:
    from fastopt.reference import augment, layers, losses

__all__ = [
    "adagrad",
    "adam",
    "augment",
    "clip_factor",
    "ema",
    "layers",
    "losses",
    "momentum",
    "power",
    "rmsprop",
    "sgd",
    "sum_squares",
    "whole_step",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import a module when it is first used: `import fastopt` needs only the rules."""
    if name not in {"augment", "layers", "losses"}:
        raise AttributeError(f"module 'fastopt.reference' has no attribute {name!r}")
    return import_module(f"fastopt.reference.{name}")
