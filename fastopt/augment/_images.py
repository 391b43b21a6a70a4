"""Checks of images, and calls of the ops, that `affine` and `augment` share."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np

from fastopt import _core
from fastopt._util import validation
from fastopt._util.arrays import Array, check_no_overlap_with, check_representable, in_c_order

Border: TypeAlias = Literal["constant", "edge", "reflect"]
Interpolation: TypeAlias = Literal["bilinear", "nearest"]
Size: TypeAlias = tuple[int, int]

CHUNK_SIZE = 16384  # elements that a thread processes at a time
MAX_CHANNELS = 1024
MAX_ELEMENTS = 2**31 - 1  # per image
MAX_SIDE = {"B": 2**24, "f": 2**24, "d": MAX_ELEMENTS}  # with bilinear interpolation, by dtype.char
BORDERS = ("constant", "edge", "reflect")  # in the order of csrc/ops/images.h

check_border = validation.choice(*BORDERS)
check_interpolation = validation.choice("bilinear", "nearest")


def run(op: str, arguments: dict[str, Any]) -> Array:
    """Run an op over the rows of all output images, and return these."""
    out: Array = arguments["y"]
    chunk = max(1, CHUNK_SIZE // math.prod(out.shape[2:]))  # rows
    _core.run(op, arguments, out.shape[0] * out.shape[1], chunk, out.size)
    return out


def bilinear_arguments(
    images: Array,
    transforms: Array,
    border: str,
    fill: float,
    out: Array,
    index: Array | None = None,
    **noise_scalars: float,
) -> dict[str, Any]:
    """Return the arguments of the op affine; a transform is a matrix row by row, a gain and an offset."""
    is_uint8, channels = images.dtype == np.uint8, math.prod(images.shape[3:])
    fill = check_representable("fill", validation.finite("fill", fill), compute_dtype(images))
    if is_uint8 and not 0 <= fill <= 255:
        raise ValueError(f"fill must be a number from 0 to 255 for images of uint8, got {fill!r}")
    arguments = {**_geometry(images, transforms, border, out), "index": index, "bytes": is_uint8, "fill": fill}
    return {**arguments, "channels": channels, "seed": 0, "step": 0, "noise": 0, **noise_scalars}


def nearest_arguments(
    images: Array, transforms: Array, border: str, fill_name: str, fill: float, out: Array
) -> dict[str, Any]:
    """Return the arguments of the op nearest, which ignores gain and offset."""
    pixel = np.full(images.shape[3:], _check_fill(fill_name, fill, images.dtype), images.dtype)
    return {**_geometry(images, transforms, border, out), "fill": pixel, "size": pixel.nbytes}


def _geometry(images: Array, transforms: Array, border: str, out: Array) -> dict[str, Any]:
    """Return the arguments that both ops have."""
    border_id = BORDERS.index(check_border("border", border))
    sizes = {"height": images.shape[1], "width": images.shape[2], "out_height": out.shape[1], "out_width": out.shape[2]}
    return {"x": images, "y": out, "transforms": transforms, "border": border_id, **sizes}


def _check_fill(name: str, fill: float, dtype: np.dtype[Any]) -> Any:
    """Return a value of a pixel, or raise if it is not one of the dtype."""
    number: Any = validation.finite(name, fill)
    if dtype.kind == "f":
        with np.errstate(all="ignore"):
            rounded = dtype.type(number)
        expected, fits = f"within the range of {dtype}", np.isfinite(rounded) and bool(rounded) == bool(number)
    else:
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        number = int(fill)
        expected, fits = f"an integer from {low} to {high} for {dtype}", number == fill and low <= number <= high
    if not fits:
        raise ValueError(f"{name} must be {expected}, got {fill!r}")
    return number


def as_input(name: str, images: Any, *, nearest: bool) -> Array:
    """Check images that are only read, and return them C-contiguous; copied only if they are not."""
    kinds = "bool, integers or floats" if nearest else "uint8, float32 or float64 for bilinear interpolation"
    if not isinstance(images, np.ndarray):
        raise TypeError(f"{name} must be an array of {kinds}, got {type(images).__name__!r}")
    _core.check_no_mask(images, name)
    dtype = images.dtype
    if dtype.kind not in "biuf" or not (nearest or (dtype.char in MAX_SIDE and dtype.isnative)):
        raise TypeError(f"{name} must have dtype {kinds}, got {dtype}")
    if images.ndim not in {3, 4} or 0 in images.shape[1:] or images.shape[3:] > (MAX_CHANNELS,):
        raise ValueError(
            f"{name} must have shape (N, H, W) or (N, H, W, C) with H, W and C at least 1 and C at most "
            f"{MAX_CHANNELS}, got {images.shape}"
        )
    _check_size(name, images.shape[1:], images, nearest)
    return in_c_order(images)


def output_size(name: str, value: Any, images: Array, *, nearest: bool) -> Size:
    """Return height and width of the output, by default those of the images."""
    if value is None:
        return images.shape[1], images.shape[2]
    height, width = validation.pair(name, value, "two ints, height and width", validation.positive_count)
    _check_size(name, (height, width, *images.shape[3:]), images, nearest)
    return height, width


def _check_size(name: str, image_shape: tuple[int, ...], images: Array, nearest: bool) -> None:
    max_side = MAX_ELEMENTS if nearest else MAX_SIDE[images.dtype.char]
    if max(image_shape[:2]) > max_side or math.prod(image_shape) > MAX_ELEMENTS:
        raise ValueError(
            f"{name} must have fewer than 2**31 elements per image, and for {images.dtype} at most {max_side} rows and "
            f"columns, got images of shape {image_shape}"
        )


def output(name: str, out: Any, images: Array, size: Size, others: dict[str, Array]) -> Array:
    """Return ``out``, or a new array, for images of another size."""
    expected = (len(images), *size, *images.shape[3:])
    if out is None:
        return np.empty(expected, images.dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be an array, got {type(out).__name__!r}")
    _core.check_no_mask(out, name)
    if out.dtype != images.dtype:
        raise TypeError(f"{name} must have dtype {images.dtype} like the input, got {out.dtype}")
    if out.shape != expected:
        raise ValueError(f"{name} must have shape {expected}, got {out.shape}")
    if not (out.flags.c_contiguous and out.flags.aligned):
        raise ValueError(f"{name} must be C-contiguous and aligned, got strides {out.strides} at {out.ctypes.data:#x}")
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writable, got a read-only array")
    check_no_overlap_with(name, out, others)
    return out


def compute_dtype(images: Array) -> np.dtype[Any]:
    """Return the dtype of coordinates and values with bilinear interpolation."""
    return np.dtype(np.float32) if images.dtype == np.uint8 else images.dtype
