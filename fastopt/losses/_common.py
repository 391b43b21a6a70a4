"""Arguments and code that the losses share."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from fastopt import _core
from fastopt._util.arrays import (
    Array,
    aligned_zeros,
    as_dtype,
    as_int64,
    as_numeric_array,
    check_all,
    index_of,
    output_like,
)
from fastopt._util.validation import choice, integer

Reduction: TypeAlias = Literal["mean", "sum", "none"]
LossAndGradient: TypeAlias = tuple[Any, Array]

MAX_INT64 = 2**63 - 1
check_reduction = choice("mean", "sum", "none")
check_ignore_index = integer("an int from -2**63 to 2**63 - 1", -(2**63), 63)


def elementwise_loss(
    op: str,
    x: Array,
    target: Any,
    reduction: Reduction,
    out: Array | None,
    *,
    is_probability: bool = False,
    **others: float | Array | None,
) -> LossAndGradient:
    """Run the op of an element-wise loss; ``others`` are its other arguments, without arrays of the caller.

    With ``is_probability``, the target is in [0, 1] and the prediction is a logit.
    """
    name, mode = "logits" if is_probability else "x", check_reduction("reduction", reduction)
    given = as_numeric_array("target", target, "fiub", "real numbers or booleans")
    if given.shape != x.shape:
        raise ValueError(f"target must have shape {x.shape} like {name}, without broadcasting, got {given.shape}")
    target = as_dtype("target", given, x.dtype)
    grad = output_like(out, x, name, {"target": target})
    values = aligned_zeros(x.shape, x.dtype) if mode == "none" else None
    factor = reciprocal(x.size) if mode == "mean" else 1.0
    arguments = {"x": x, "target": target, "grad": grad, "values": values, "factor": factor, **others}
    total = run(op, arguments, x.size, _core.CHUNK, target if is_probability else None, out)
    return (total * factor if mode == "mean" else total if values is None else values), grad


def run(
    op: str, arguments: dict[str, Any], count: int, chunk: int, probabilities: Array | None, out: Array | None
) -> float:
    """Run the op of a loss, and raise ``ValueError`` if one of the probabilities, its target, is not in [0, 1].

    The op checks them itself, while a chunk is in the cache; its sum is then -infinity or NaN instead of >= 0. By then
    it has overwritten ``out``, so with ``out`` a separate pass checks the probabilities first.
    """
    if probabilities is not None and out is not None:
        _check_probabilities(probabilities)
    total = _core.run(op, arguments, count, chunk, arguments["x"].size)
    if probabilities is not None and not total >= 0:
        _check_probabilities(probabilities)
    return total


def reciprocal(divisor: float) -> float:
    """Return 1 / divisor, or NaN for 0, because the mean of nothing is NaN."""
    return 1.0 / divisor if divisor else math.nan


def class_target(
    target: Any, x: Array, name: str, ignore_index: int, *, background: bool = False
) -> tuple[Array, None, int] | tuple[None, Array, int]:
    """Return (probabilities, None, rows), or (None, labels as int64, number of labels that are not ignored).

    With ``background``, label 1 is the only class and label 0 is none, so the axis of classes may be missing in
    probabilities, and present in labels.
    """
    given = as_numeric_array("target", target, "fiub", "integer labels or probabilities")
    kind, rows, classes = given.dtype.kind, x.shape[:-1], x.shape[-1] + background
    if background and given.shape in {x.shape, rows}:
        given = given.reshape(x.shape if kind == "f" else rows)
    if given.shape == x.shape:
        return as_dtype("target", given, x.dtype), None, math.prod(rows)
    if given.shape != rows:
        raise ValueError(
            f"target must have shape {rows}, a label for each row of {name}, or {x.shape}, probabilities, "
            f"got {given.shape}"
        )
    if kind == "f" or (kind == "b" and classes > 2):
        raise TypeError(
            f"target must be integer labels (target.astype(int)), or probabilities with shape {x.shape}, "
            f"got {given.dtype} with shape {given.shape}"
        )
    is_uint64 = kind == "u" and given.itemsize == 8
    invalid = classes if classes != ignore_index else classes + 1  # a label beyond int64 must not wrap around
    labels = as_int64(np.where(given <= MAX_INT64, given, invalid) if is_uint64 else given)
    counted = _core.count_labels(labels, classes, ignore_index)
    if counted < 0:
        where = index_of(-1 - counted, given.shape)
        row = where[0] if len(where) == 1 else where
        raise IndexError(f"target must have labels in [0, {classes}), got {given[where]} in row {row}")
    return None, labels, counted


def _check_probabilities(target: Array) -> None:
    if _core.run("check_probabilities", {"x": target}, target.size, _core.CHUNK, target.size):
        check_all("target", target, (target >= 0) & (target <= 1), "in [0, 1]")
