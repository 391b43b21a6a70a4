"""Gradients of the parts of a batch, added up until a step takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt import _kernels
from fastopt.buffers import Array, aligned_zeros
from fastopt.structures import Structure


class Accumulation:
    """Sums like the parameters, of so many ``parts``; allocated at the first."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._sums: list[Array] = []
        self.parts = 0

    def add(self, grads: Any, plan: _kernels.Plan, zeroes: bool) -> None:
        """Add the gradients of a part, and leave them zero if wanted; nothing is written if ``plan`` can't use one."""
        things = self._structure.take(grads, "grads")
        plan.check(things)
        arrays = [np.asarray(thing) for thing in things]
        if not self._sums:
            self._sums = [aligned_zeros(array.shape, array.dtype) for array in arrays]
        _kernels.add_part(self, self._sums, arrays, zeroes)

    def take(self, grads: Any) -> list[Array]:
        """Give the sums for a step, which must have come without gradients of its own."""
        if grads is not None:
            raise ValueError(
                f"grads are given, but {self.parts} parts were accumulated; wants step(), or one more part"
            )
        if not self.parts:
            raise TypeError("grads is None, and nothing was accumulated; wants gradients like the parameters")
        return self._sums
