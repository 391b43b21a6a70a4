r"""Losses: the value and the gradient with respect to the prediction, in one fused pass.

Each function returns ``(value, gradient)``. Predictions are arrays of float32 or float64. The gradient is a new array
of the same shape and dtype, or ``out``, which may be the prediction itself.

Predictions and targets are only read. They are copied if a kernel cannot read them: arrays that are not C-contiguous or
not aligned, and targets of another dtype. A target is an array-like of real numbers or booleans with the shape of the
prediction, and is never broadcast. Labels are integers in an array-like of that shape without the axis of classes.
``out`` is written and never copied: it must be C-contiguous, with the shape and dtype of the prediction. It may be the
prediction itself, and overlap inputs that are copied, but no others.

``reduction`` selects the value: ``"mean"`` or ``"sum"``, a float that is accumulated in float64 and identical for any
number of threads, or ``"none"``, an array of the losses, with the gradient of their sum. Each loss is computed in the
dtype of the prediction. If it overflows, or the sum of float64 losses does, the value is infinite, and so is the mean.

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
