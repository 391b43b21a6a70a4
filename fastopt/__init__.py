"""fastopt: fused, in-place optimizer steps for NumPy training loops, exact to the bit."""

__version__ = "0.1.0"

from contextlib import suppress

from fastopt import kernels, layers, losses, optimizers, reference, schedules
from fastopt.augment import affine, augment
from fastopt.batches import batches
from fastopt.checkpoint import Checkpoint, load, save
from fastopt.early_stopping import EarlyStopping
from fastopt.flat import Flat
from fastopt.layers import *  # noqa: F403  what is new in these modules is named there and nowhere else
from fastopt.loss_scale import DynamicLossScale
from fastopt.losses import *  # noqa: F403
from fastopt.lr_finder import LRFinderResult, find_lr
from fastopt.optimizers import *  # noqa: F403
from fastopt.optimizers import Optimizer
from fastopt.runtime import isa, num_threads, set_isa, set_num_threads, set_threading_layer, threading_layer

with suppress(ImportError):
    from fastopt import _threadpoolctl  # noqa: F401  it registers itself

__all__ = [
    "Checkpoint",
    "DynamicLossScale",
    "EarlyStopping",
    "Flat",
    "LRFinderResult",
    "Optimizer",
    "affine",
    "augment",
    "batches",
    "find_lr",
    "isa",
    "kernels",
    "layers",
    "load",
    "losses",
    "num_threads",
    "reference",
    "save",
    "schedules",
    "set_isa",
    "set_num_threads",
    "set_threading_layer",
    "threading_layer",
]
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += optimizers.__all__
