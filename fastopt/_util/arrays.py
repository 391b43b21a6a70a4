"""Array checks and allocation, shared by losses, layers, augmentation and optimizers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastopt import _core

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

ALIGNMENT = 64  # a cache line, and the widest vector register
WRITE_SIZE = 2**20  # bytes per write to a file
MAX_FINITE = {char: float(np.finfo(char).max) for char in "fd"}  # by dtype.char
MIN_POSITIVE = {char: float(np.finfo(char).smallest_subnormal) for char in "fd"}


def check_array(name: str, array: Any, *, writable: bool) -> np.dtype[Any]:
    """Return the dtype of a C-contiguous float32 or float64 array, or raise."""
    if not isinstance(array, np.ndarray):
        _core.check_on_cpu(array, name)
        raise TypeError(f"{name} must be an array of float32 or float64, got {type(array).__name__!r}")
    _core.inspect_array(array, name, "", writable)
    dtype: np.dtype[Any] = array.dtype
    return dtype


def check_like(name: str, array: Any, other: Array, other_name: str, *, writable: bool) -> Array:
    """Return an array with the shape and dtype of ``other``, or raise."""
    if check_array(name, array, writable=writable) != other.dtype:
        raise TypeError(f"{name} must have dtype {other.dtype} like {other_name}, got {array.dtype}")
    if array.shape != other.shape:
        raise ValueError(f"{name} must have shape {other.shape} like {other_name}, got {array.shape}")
    return array  # type: ignore[no-any-return]


def as_numeric_array(name: str, value: Any, kinds: str, expected: str) -> Array:
    """Convert an array-like to an array and check that its dtype is one of ``kinds`` (of ``dtype.kind``)."""
    if type(value) is not np.ndarray:
        _core.check_no_mask(value, name)
        _core.check_on_cpu(value, name)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be {expected}, got a ragged sequence: {value!r}") from None
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name} must be {expected}, got {type(value).__name__!r} of dtype {array.dtype}")
    return array


def in_c_order(array: Array) -> Array:
    """Return an array as C-contiguous and aligned, which kernels need; copied only if it is not."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()


def as_int64(array: Array) -> Array:
    """Return integers as C-contiguous, aligned int64, which kernels need; copied only if they are not."""
    return in_c_order(np.ascontiguousarray(array, np.int64))


def as_real(name: str, array: Any) -> Array:
    """Return an array of float32 or float64 that is only read; copied only if it is not C-contiguous and aligned."""
    try:
        check_array(name, array, writable=False)
    except ValueError:
        array = array.copy()
    return array  # type: ignore[no-any-return]


def as_real_of(name: str, value: Any, dtype: np.dtype[Any], shape: Shape, relation: str) -> Array:
    """Convert an array-like of real numbers that is only read to this dtype; copied only if needed."""
    array = as_numeric_array(name, value, "biuf", "real numbers")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}{relation}, got {array.shape}")
    return as_dtype(name, array, dtype)


def as_dtype(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array that is only read in a dtype and in C order; copied only if it is not."""
    if array.dtype == dtype:
        return in_c_order(array)
    with np.errstate(all="ignore"):
        result = np.asarray(array, dtype, order="C")
    if array.dtype.kind == "f":  # every integer is in the range of float32
        check_all(name, array, np.isfinite(result) | ~np.isfinite(array), f"within the range of {dtype}")
    return result


def check_all(name: str, array: Array, valid: Array, expected: str) -> None:
    """Raise for the first element of an array that is not valid."""
    if not valid.all():
        where = index_of(int(np.argmin(valid)), valid.shape)
        raise ValueError(
            f"{name} must be {expected}, got {array[where]} at index {where[0] if len(where) == 1 else where}"
        )


def index_of(i: int, shape: Shape) -> Shape:
    """Return the index of the i-th element in C order."""
    return tuple(int(k) for k in np.unravel_index(i, shape))


def check_representable(name: str, value: float, dtype: np.dtype[Any]) -> float:
    """Return a number that does not overflow or underflow when it is rounded to ``dtype``, or raise."""
    if 0.0 < abs(value) < MIN_POSITIVE[dtype.char] or abs(value) > MAX_FINITE[dtype.char]:
        raise ValueError(f"{name} must be within the range of {dtype}, got {value!r}")
    return value


def output_like(out: Array | None, x: Array, name: str, others: dict[str, Any]) -> Array:
    """Return ``out``, or a new array like ``x``. ``out`` may be ``x`` itself, but may not overlap the others."""
    if out is None:
        return np.empty(x.shape, x.dtype)
    check_like("out", out, x, name, writable=True)
    check_no_overlap_with("out", out, {name: x}, may_equal=True)
    check_no_overlap_with("out", out, others)
    return out


def check_no_overlap_with(name: str, array: Array, others: dict[str, Any], *, may_equal: bool = False) -> None:
    """Raise if an array shares memory with one of the others, which are C-contiguous or None.

    With ``may_equal``, arrays may occupy exactly the same memory.
    """
    other = _core.first_overlap(array, others, may_equal)
    if other is not None:
        raise ValueError(f"{name} and {other} overlap in memory")


def memory_axes(array: Array) -> tuple[int, ...]:
    """Return the axes of a dense array in the order of memory: the last one is contiguous."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))


def in_memory_order(array: Array) -> Array:
    """Return the C-contiguous view of a dense array."""
    return np.transpose(array, memory_axes(array))


def zeros_laid_out(like: Array, allocate: Callable[[Shape, npt.DTypeLike], Array]) -> Array:
    """Return zeros with the shape, dtype and order of axes of a dense array; ``allocate`` makes C-contiguous ones."""
    axes = memory_axes(like)
    zeros = allocate(tuple(like.shape[axis] for axis in axes), like.dtype)
    return np.transpose(zeros, tuple(axes.index(axis) for axis in range(like.ndim)))


def aligned_zeros(shape: Shape, dtype: npt.DTypeLike) -> Array:
    """Return zeros in memory that starts on a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def mapped_zeros(file: Path, shape: Shape, dtype: npt.DTypeLike, created: list[Path]) -> Array:
    """Return zeros that are mapped to a new .npy file.

    The disk space is allocated now, because a full disk during a step would kill the process. The path is added to
    ``created`` before the file exists, so that the caller can delete it after Ctrl-C.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return aligned_zeros(shape, dtype)  # an empty file can't be mapped
    created.append(file)
    try:
        new = file.open("xb")
    except FileExistsError:  # it was not created here
        created.remove(file)
        raise
    with new:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(new, header)  # padded to a multiple of 64 bytes
        new.flush()
        try:
            _append_zeros(new, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from error
    return np.asarray(np.load(file, mmap_mode="r+"))


def _append_zeros(file: IO[bytes], size: int) -> None:
    """Append ``size`` zero bytes that occupy disk space."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), file.tell(), size)
        return
    for begin in range(0, size, WRITE_SIZE):  # macOS
        file.write(bytes(min(WRITE_SIZE, size - begin)))
    file.flush()
