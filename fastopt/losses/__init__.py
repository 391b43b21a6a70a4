r"""Losses: the value and the gradient with respect to the prediction, in one fused pass.

Each function returns ``(value, gradient)``. Predictions are C-contiguous arrays of float32 or float64. The gradient is
a new array of the same shape and dtype, or ``out``, which may be the prediction itself.

``reduction`` selects the value: ``"mean"`` or ``"sum"``, a float that is accumulated in float64 and identical for any
number of threads, or ``"none"``, an array of the losses, with the gradient of their sum.

Invalid arguments raise before anything is written: ``TypeError`` for a wrong type or dtype, ``ValueError`` for a wrong
shape, a number out of range or overlapping memory, ``IndexError`` for a label that is not a class.

The class axis is the last one. PyTorch's is the second.

Examples
--------
>>> import numpy as np
>>> from fastopt import losses
>>> logits, labels = np.zeros((2, 4), np.float32), np.array([0, 3])
>>> value, gradient = losses.cross_entropy(logits, labels)
>>> round(value, 6)
1.386294
>>> gradient[0]
array([-0.375,  0.125,  0.125,  0.125], dtype=float32)
"""

from fastopt.losses._classification import binary_cross_entropy, cross_entropy, focal
from fastopt.losses._regression import huber, log_cosh, mae, mse
from fastopt.losses._segmentation import dice

__all__ = ["binary_cross_entropy", "cross_entropy", "dice", "focal", "huber", "log_cosh", "mae", "mse"]
