"""Arguments and code that the losses share."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from fastopt import _core
from fastopt._util.arrays import (
    Array,
    aligned_zeros,
    as_int64,
    as_numeric_array,
    check_array,
    check_like,
    output_like,
)
from fastopt._util.validation import choice

Reduction: TypeAlias = Literal["mean", "sum", "none"]
LossAndGradient: TypeAlias = tuple[Any, Array]

MAX_INT64 = 2**63 - 1
check_reduction = choice("mean", "sum", "none")


def elementwise_loss(
    op: str,
    x: Array,
    target: Array,
    reduction: Reduction,
    out: Array | None,
    *,
    name: str = "x",
    **others: float | Array | None,
) -> LossAndGradient:
    """Run the op of an element-wise loss; ``others`` are its other arguments, without arrays of the caller."""
    dtype, mode = check_array(name, x, writable=False), check_reduction("reduction", reduction)
    check_like("target", target, x, name, writable=False)
    grad = output_like(out, x, name, {"target": target})
    values = aligned_zeros(x.shape, dtype) if mode == "none" else None
    factor = reciprocal(x.size) if mode == "mean" else 1.0
    arguments = {"x": x, "target": target, "grad": grad, "values": values, "factor": factor, **others}
    total = _core.run(op, arguments, x.size, _core.CHUNK, x.size)
    return (total * factor if mode == "mean" else total if values is None else values), grad


def reciprocal(divisor: float) -> float:
    """Return 1 / divisor, or NaN for 0, because the mean of nothing is NaN."""
    return 1.0 / divisor if divisor else math.nan


def class_target(
    target: Any, x: Array, name: str, ignore_index: int
) -> tuple[Array, None, int] | tuple[None, Array, int]:
    """Return (probabilities, None, rows), or (None, labels as int64, number of labels that are not ignored)."""
    if getattr(getattr(target, "dtype", None), "kind", "") == "f":
        return check_like("target", target, x, name, writable=False), None, math.prod(x.shape[:-1])
    expected = f"integer labels, or probabilities with the shape and dtype of {name}"
    given, classes = as_numeric_array("target", target, "iu", expected), x.shape[-1]
    if given.shape != x.shape[:-1]:
        raise ValueError(f"target must have shape {x.shape[:-1]}, a label for each row of {name}, got {given.shape}")
    is_uint64 = given.dtype.kind == "u" and given.itemsize == 8
    invalid = classes if classes != ignore_index else classes + 1  # a label beyond int64 must not wrap around
    labels = as_int64(np.where(given <= MAX_INT64, given, invalid) if is_uint64 else given)
    counted = _core.count_labels(labels, classes, ignore_index)
    if counted < 0:
        where = tuple(int(i) for i in np.unravel_index(-1 - counted, labels.shape))
        row = where[0] if len(where) == 1 else where
        raise IndexError(f"target must have labels in [0, {classes}), got {given[where]} in row {row}")
    return None, labels, counted
