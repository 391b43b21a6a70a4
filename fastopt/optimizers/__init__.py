"""The optimizers, one module for each family."""

from fastopt.optimizers._base import Optimizer as Optimizer
from fastopt.optimizers.adam import Adam, AdamW
from fastopt.optimizers.rmsprop import RMSprop
from fastopt.optimizers.sgd import SGD, Momentum

__all__ = ["SGD", "Adam", "AdamW", "Momentum", "RMSprop"]
