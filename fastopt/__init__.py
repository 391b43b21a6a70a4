"""fastopt: fused, in-place optimizer steps for NumPy training loops, exact to the bit."""

__version__ = "0.1.0"

from contextlib import suppress

from fastopt import kernels, layers, losses, optimizers, reference, schedules
from fastopt.buffers import Flat
from fastopt.optimizers import *  # noqa: F403  a new optimizer is named there and nowhere else
from fastopt.runtime import isa, num_threads, set_isa, set_num_threads
from fastopt.schedules import plot_schedule

with suppress(ImportError):
    from fastopt import _threadpoolctl  # noqa: F401  it registers itself

__all__ = [
    "Flat",
    "isa",
    "kernels",
    "layers",
    "losses",
    "num_threads",
    "plot_schedule",
    "reference",
    "schedules",
    "set_isa",
    "set_num_threads",
]
__all__ += optimizers.__all__
