"""The optimizers, one module for each family."""

from fastopt.optimizers._base import Optimizer as Optimizer
from fastopt.optimizers.adagrad import Adagrad
from fastopt.optimizers.adam import Adam, AdamW
from fastopt.optimizers.rmsprop import RMSprop
from fastopt.optimizers.sgd import SGD, Momentum

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Momentum", "RMSprop"]
