"""What losses, layers and augmentation ask of the arrays that they are given, before a task gets them."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastopt import _core

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = "tuple[int, ...]"

ALIGNMENT = 64  # a cache line, and the widest vector register
BLOCK = 2**20  # bytes that are written at a time
GRAIN = 4096  # elements that a thread does at a time
MOST = {char: float(np.finfo(char).max) for char in "fd"}
LEAST = {char: float(np.finfo(char).smallest_subnormal) for char in "fd"}


def checked(name: str, array: Any, written: bool = False) -> np.dtype[Any]:
    """Give the dtype of an array that a task can use, or raise what is wrong with it."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__!r}; wants an array of float32 or float64")
    _core.inspect_array(array, name, "", written)
    dtype: np.dtype[Any] = array.dtype
    return dtype


def like(name: str, array: Any, other: Array, other_name: str, written: bool = False) -> Array:
    """Give an array that has the shape and the dtype of another, or raise how it differs."""
    if checked(name, array, written) != other.dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; wants {other.dtype}, as {other_name}")
    if array.shape != other.shape:
        raise ValueError(f"{name} has shape {array.shape}; wants {other.shape}, as {other_name}")
    return array  # type: ignore[no-any-return]


def numbers(name: str, value: Any, kinds: str, wanted: str) -> Array:
    """Give an array of what the user may have as a list, of certain kinds of dtypes, or raise what is wrong with it."""
    if type(value) is not np.ndarray:
        _core.check_no_mask(value, name)
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        raise ValueError(f"{name} is {value!r}, which has no shape; wants {wanted}") from None
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name} is a {type(value).__name__!r} of dtype {array.dtype}; wants {wanted}")
    return array


def held(name: str, value: float, dtype: np.dtype[Any]) -> float:
    """Give a number that an array's type can hold, neither as an infinity nor as the zero that it isn't, or raise."""
    if (0.0 < abs(value) < LEAST[dtype.char]) or abs(value) > MOST[dtype.char]:
        raise ValueError(f"{name} is {value!r}; wants a number within the range of {dtype}")
    return value


def output(out: Array | None, x: Array, name: str, others: dict[str, Any]) -> Array:
    """Give the array for a result like x: a new one, or ``out``, which is apart from all others but x itself."""
    if out is None:
        return np.empty_like(x)
    like("out", out, x, name, written=True)
    if out.ctypes.data != x.ctypes.data:
        apart("out", out, {name: x})
    return apart("out", out, others)


def apart(name: str, array: Array, others: dict[str, Any]) -> Array:
    """Give an array that shares no memory with others, which are C-contiguous or None, or raise with which it does."""
    other = _core.first_overlap(array, others)
    if other is not None:
        raise ValueError(f"{name} and {other} overlap in memory; each wants memory of its own")
    return array


def aligned_zeros(shape: Shape, dtype: npt.DTypeLike) -> Array:
    """Zeros in memory that starts on a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def mapped_zeros(file: Path, shape: Shape, dtype: npt.DTypeLike, made: list[Path]) -> Array:
    """Zeros in a new .npy file, whose room on the disk is taken now: a full disk is an error, not a crash in a step.

    The file is added to those ``made`` before there is one, so that Ctrl-C does not leave it behind.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return aligned_zeros(shape, dtype)  # no bytes can't be mapped
    if file.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
    made.append(file)
    with file.open("xb") as new:
        head = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(new, head)  # a whole number of 64 bytes
        new.flush()
        try:
            _take_room(new, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from error
    return np.asarray(np.load(file, mmap_mode="r+"))


def _take_room(file: IO[bytes], size: int) -> None:
    """Add so many zeros."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), file.tell(), size)
        return
    for begin in range(0, size, BLOCK):  # macOS
        file.write(bytes(min(BLOCK, size - begin)))
    file.flush()
