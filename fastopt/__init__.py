"""fastopt: fused, in-place optimizer steps for NumPy training loops, exact to the bit."""

__version__ = "0.1.0"

# First, for it loads the core in its own way.
from fastopt.runtime import isa, num_threads, set_isa, set_num_threads

# isort: split
from fastopt import kernels, reference
from fastopt.buffers import Flat
from fastopt.optimizers import SGD, Adam, AdamW, Momentum, RMSprop

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Flat",
    "Momentum",
    "RMSprop",
    "isa",
    "kernels",
    "num_threads",
    "reference",
    "set_isa",
    "set_num_threads",
]
