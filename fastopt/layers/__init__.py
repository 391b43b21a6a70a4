r"""Layers that are bound by memory: dropout, batch normalization and an L2 penalty, in one or two passes each.

The first argument is an array of float32 or float64 in any memory order. Other arrays that are only read may be lists
or have another dtype: they are cast to that of the first. Arrays that are only read are copied if a kernel needs it.
Arrays that are written must have the right dtype and be C-contiguous. A result is a new array, or ``out``.

Invalid arguments raise before anything is written: ``TypeError`` for a wrong type or dtype, ``ValueError`` for a wrong
shape, a number out of range or overlapping memory.
"""

from fastopt.layers._batch_norm import BatchNormCache, batch_norm, batch_norm_backward
from fastopt.layers._elements import dropout, l2_penalty

__all__ = ["BatchNormCache", "batch_norm", "batch_norm_backward", "dropout", "l2_penalty"]
