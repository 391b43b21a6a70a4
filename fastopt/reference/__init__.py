"""Every kernel again in plain NumPy, as a reader would write it, with the same bits as the compiled one.

``optimizers``: the rules, with the signatures of `fastopt.kernels`, and what surrounds them in a step; ``losses``,
``layers`` and ``augment``: with those of `fastopt.losses`, `fastopt.layers` and `fastopt.augment`; ``numerics`` and
``randomness``: what they share.
"""

from fastopt.reference import augment, layers, losses
from fastopt.reference._common import clip_factor, ema, power, sum_squares, whole_step
from fastopt.reference.adam import adam
from fastopt.reference.rmsprop import rmsprop
from fastopt.reference.sgd import momentum, sgd

__all__ = [
    "adam",
    "augment",
    "ema",
    "clip_factor",
    "layers",
    "losses",
    "momentum",
    "power",
    "rmsprop",
    "sgd",
    "sum_squares",
    "whole_step",
]
