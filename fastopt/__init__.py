"""Fused, in-place, multi-threaded optimizer steps for training loops written in NumPy.

- Optimizers (`fastopt.optimizers`): `SGD`, `Momentum`, `RMSprop`, `Adagrad`, `Adam`, `AdamW`, over a `Flat` or other
  arrays; plain functions in `fastopt.kernels`; rates and other hyperparameters that follow `fastopt.schedules`.
- Losses (`fastopt.losses`), layers (`fastopt.layers`) and augmentation (`augment`, `affine`).
- `Keyed`, for code that updates its arrays one by one.
- Training loops: `batches`, `EarlyStopping`, `find_lr`, `DynamicLossScale`; saving in `fastopt.checkpoint`.
- Instruction sets and threads in `fastopt.runtime`; every kernel in NumPy in `fastopt.reference`.
"""

__version__ = "0.1.0"

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastopt import kernels, layers, losses, optimizers, reference, runtime, schedules
from fastopt.augment import affine, augment
from fastopt.batches import batches
from fastopt.early_stopping import EarlyStopping
from fastopt.flat import Flat
from fastopt.keyed import Keyed
from fastopt.layers import *  # noqa: F403  what these modules export is listed there only
from fastopt.loss_scale import DynamicLossScale
from fastopt.losses import *  # noqa: F403
from fastopt.lr_finder import LRFinderResult, find_lr
from fastopt.optimizers import *  # noqa: F403
from fastopt.optimizers import Optimizer
from fastopt.runtime import isa, num_threads, set_isa, set_num_threads, set_threading_layer, threading_layer

if TYPE_CHECKING:
    from fastopt import checkpoint as checkpoint
    from fastopt.checkpoint import Checkpoint, load, save

with suppress(ImportError):
    from fastopt import _threadpoolctl  # noqa: F401  registers itself

__all__ = ["Checkpoint", "DynamicLossScale", "EarlyStopping", "Flat", "Keyed", "LRFinderResult", "Optimizer"]
__all__ += ["affine", "augment", "batches", "find_lr", "load", "save"]
__all__ += ["isa", "num_threads", "set_isa", "set_num_threads", "set_threading_layer", "threading_layer"]
__all__ += ["checkpoint", "kernels", "layers", "losses", "optimizers", "reference", "runtime", "schedules"]
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += optimizers.__all__


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})


if not TYPE_CHECKING:  # otherwise type checkers would accept every name

    def __getattr__(name: str) -> Any:
        """Import the module for saving when it is first used: its libraries take a tenth of the import time."""
        if name not in {"Checkpoint", "checkpoint", "load", "save"}:
            raise AttributeError(f"module 'fastopt' has no attribute {name!r}")
        saving = import_module("fastopt.checkpoint")
        globals().update({"Checkpoint": saving.Checkpoint, "load": saving.load, "save": saving.save})
        return globals()[name]
