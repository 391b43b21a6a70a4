r"""Image augmentation: rotate, scale, shift, flip, crop and change the colors of every image of a batch, in one pass.

Images are C-contiguous arrays of uint8, float32 or float64 with shape (N, H, W) or (N, H, W, C). Each side is at most
2**24 for uint8 and float32 (float32 represents the coordinates), an image has fewer than 2**31 elements, and C is at
most 1024.

Coordinates and values are computed in the dtype of the images, or for uint8 in float32; the results for uint8 are
rounded half to even and limited to [0, 255]. Random numbers are a function of seed, step and the number of the image.
They depend neither on the number of threads nor on the other images of the batch.

``border`` defines the pixels outside an image: ``"constant"`` (every pixel is ``fill``), ``"edge"`` (the nearest pixel)
or ``"reflect"`` (mirrored at the outermost pixels, which are not repeated). These are the names of ``numpy.pad``; SciPy
calls them ``"grid-constant"``, ``"nearest"`` and ``"mirror"``.

Invalid arguments raise before anything is written: ``TypeError`` for a wrong type or dtype, ``ValueError`` for a wrong
shape, a number out of range or overlapping memory.

Examples
--------
>>> import numpy as np
>>> from fastopt.augment import augment
>>> images = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8) / 128
>>> augment(images, seed=0, step=7, rotate=15, translate=0.1, flip=0.5, noise=0.05).shape
(2, 8, 8)
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fastopt import _core
from fastopt._util import random, validation
from fastopt._util.arrays import (
    Array,
    as_int64,
    as_numeric_array,
    check_array,
    check_no_overlap_with,
    check_representable,
)

__all__ = ["affine", "augment"]

Border: TypeAlias = Literal["constant", "edge", "reflect"]
Size: TypeAlias = tuple[int, int]

CHUNK_SIZE = 16384  # elements that a thread processes at a time
MAX_CHANNELS = 1024
MAX_ELEMENTS = 2**31 - 1  # per image
MAX_SIDE = {"B": 2**24, "f": 2**24, "d": MAX_ELEMENTS}  # by dtype.char
MAX_IMAGES = 2**32
BORDERS = ("constant", "edge", "reflect")  # in the order of csrc/ops/images.h
NUM_DRAWS = 10  # random numbers used per image, of a block of 64

# Taylor series with z = x^2: sin(x) = x + x z (S[0] + S[1] z + ...), cos(x) = 1 + z (C[0] + C[1] z + ...).
SERIES = np.array([[(-1) ** k / math.factorial(2 * k + 1), (-1) ** k / math.factorial(2 * k)] for k in range(1, 9)])

check_border = validation.choice(*BORDERS)
check_rotation = validation.number("a number of degrees from 0 to 180", lambda x: 0 <= x <= 180)


def affine(
    images: Array,
    matrices: npt.ArrayLike,
    *,
    shape: Size | None = None,
    border: Border = "constant",
    fill: float = 0.0,
    out: Array | None = None,
) -> Array:
    r"""Resample images with affine maps and bilinear interpolation.

    .. math:: y_{ij} = x(M (i, j, 1)^T)

    Parameters
    ----------
    images : ndarray of uint8, float32 or float64, shape (N, H, W) or (N, H, W, C)
        Input x, C-contiguous.
    matrices : array-like of shape (N, 2, 3)
        Matrix M for each image. It maps row and column of an output pixel to row and column in the input, in pixels.
    shape : tuple of two ints, optional
        Height and width of the output. Default: those of the input.
    border : {"constant", "edge", "reflect"}, default "constant"
        Pixels outside the input: ``fill``, the nearest pixel, or the mirror image.
    fill : float, default 0.0
        Value of pixels outside the input for ``border="constant"``; from 0 to 255 for uint8.
    out : ndarray, optional
        Array for the result, with the dtype of ``images``. It may not overlap them.

    Returns
    -------
    ndarray of shape (N, H', W') or (N, H', W', C)
        ``out``, or a new array in the dtype of ``images``.

    Raises
    ------
    TypeError
        If an array has another dtype, or ``shape`` is not two ints.
    ValueError
        If a shape is wrong, an image is too large, a number is out of range or not finite, or ``out`` overlaps
        ``images``.

    See Also
    --------
    augment : Draw the matrices at random.

    Notes
    -----
    The convention is that of ``scipy.ndimage.affine_transform`` with ``order=1``. OpenCV's ``warpAffine`` has columns
    before rows, and by default the inverse of M.

    Examples
    --------
    >>> quarter_turn = [[[0, 1, 0], [-1, 0, 1]]]
    >>> affine(np.array([[[1.0, 2.0], [3.0, 4.0]]]), quarter_turn)
    array([[[2., 4.],
            [1., 3.]]])
    """
    _check_images("images", images, writable=False)
    expected = (len(images), 2, 3)
    matrices = as_numeric_array("matrices", matrices, "fiu", f"numbers of shape {expected}")
    if matrices.shape != expected:
        raise ValueError(f"matrices must have shape {expected}, a matrix for each image, got {matrices.shape}")
    transforms = np.empty((len(images), 8))
    transforms[:, :6] = matrices.reshape(-1, 6)
    if not np.isfinite(transforms[:, :6]).all():
        raise ValueError("matrices must be finite, got NaN or infinity")
    transforms[:, 6:] = 1, 0  # gain, offset
    return _resample(images, transforms, _output_size("shape", shape, images), border, fill, out)


def augment(
    images: Array,
    *,
    seed: int,
    step: int,
    index: npt.ArrayLike | None = None,
    rotate: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    translate: float = 0.0,
    flip: float = 0.0,
    flip_vertical: float = 0.0,
    crop: Size | None = None,
    contrast: float = 0.0,
    brightness: float = 0.0,
    noise: float = 0.0,
    border: Border = "constant",
    fill: float = 0.0,
    out: Array | None = None,
) -> Array:
    r"""Change each image at random: geometry, contrast, brightness and noise, in one pass.

    An image is flipped, rotated about its center, scaled and shifted, resampled with bilinear interpolation, and
    cropped. Then, with w = 255 for uint8 and 1 otherwise,

    .. math:: y = c\, (x - w / 2) + w / 2 + b + n

    Parameters
    ----------
    images : ndarray of uint8, float32 or float64, shape (N, H, W) or (N, H, W, C)
        Input x, C-contiguous. Floats are expected in [0, 1], but not checked.
    seed : int
        From 0 to 2**64 - 1.
    step : int
        Number of the training step, from 0 to 2**53 - 1.
    index : array-like of int, shape (N,), optional
        Number of each image, in [0, 2**32), for example its row in the data set. The random numbers of an image depend
        on it. Default: the position in the batch.
    rotate : float, default 0.0
        Largest angle in degrees, from 0 to 180. The angle is uniform in [-rotate, rotate].
    scale : tuple of two floats, default (1.0, 1.0)
        Smallest and largest magnification, > 0. The magnification is uniform between them.
    translate : float, default 0.0
        Largest shift as a fraction of height and of width, >= 0. Each shift is uniform in both directions.
    flip, flip_vertical : float, default 0.0
        Probability of exchanging left and right, and of exchanging top and bottom.
    crop : tuple of two ints, optional
        Height and width of the output, at most those of the input. The position is uniform, in whole pixels. Default:
        the whole image.
    contrast : float, default 0.0
        Largest change of contrast, >= 0. c is uniform in [1 - contrast, 1 + contrast].
    brightness : float, default 0.0
        Largest change of brightness as a fraction of w, >= 0. b is uniform in [-brightness * w, brightness * w].
    noise : float, default 0.0
        Standard deviation of the noise as a fraction of w, >= 0. n is normal and independent for each element.
    border : {"constant", "edge", "reflect"}, default "constant"
        Pixels outside the input: ``fill``, the nearest pixel, or the mirror image.
    fill : float, default 0.0
        Value of pixels outside the input for ``border="constant"``; from 0 to 255 for uint8. Contrast, brightness and
        noise change these pixels, too.
    out : ndarray, optional
        Array for the result, with the dtype of ``images``. It may not overlap them.

    Returns
    -------
    ndarray of shape (N, H', W') or (N, H', W', C)
        ``out``, or a new array in the dtype of ``images``.

    Raises
    ------
    TypeError
        If an array has another dtype, or an argument a wrong type.
    ValueError
        If a shape is wrong, an image is too large, an argument is out of range, or ``out`` overlaps an input.

    See Also
    --------
    affine : Resample with given matrices.

    Notes
    -----
    Each change uses its own random number. Call the function with the same seed, step and geometric options on masks
    of shape (N, H, W) to move them with their images; interpolation makes their edges soft.

    Examples
    --------
    >>> images = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    >>> augment(images, seed=0, step=1, flip=0.5)
    array([[[ 0,  1,  2],
            [ 3,  4,  5],
            [ 6,  7,  8]],
    <BLANKLINE>
           [[11, 10,  9],
            [14, 13, 12],
            [17, 16, 15]]], dtype=uint8)
    """
    _check_images("images", images, writable=False)
    white = 255.0 if images.dtype == np.uint8 else 1.0
    height, width = images.shape[1:3]
    shape = _output_size("crop", crop, images)
    if shape[0] > height or shape[1] > width:
        raise ValueError(f"crop must be at most {(height, width)}, the size of the images, got {crop!r}")
    min_scale, max_scale = _check_scale(scale)
    rotate, translate = check_rotation("rotate", rotate), validation.non_negative("translate", translate)
    flip, flip_vertical = validation.fraction("flip", flip), validation.fraction("flip_vertical", flip_vertical)
    contrast = validation.non_negative("contrast", contrast)
    brightness = validation.non_negative("brightness", brightness)
    noise, numbers = validation.non_negative("noise", noise), _image_numbers(index, len(images))
    noise = white * check_representable("noise", noise, _compute_dtype(images))

    bits = random.random_uint32_blocks(seed, step, random.AUGMENTATION, numbers)[:, :NUM_DRAWS].T
    with np.errstate(all="ignore"):  # extreme arguments overflow to coordinates outside the image
        uniform = (bits + 0.5) * 2.0**-32  # in (0, 1)
        signed = 2 * uniform - 1  # in (-1, 1)
        sine, cosine = _sine_and_cosine(rotate * signed[0])
        zoom = min_scale + (max_scale - min_scale) * uniform[1]
        down, right = translate * height * signed[2], translate * width * signed[3]
        row_factor = np.where(uniform[4] < flip_vertical, -1.0, 1.0) / zoom
        column_factor = np.where(uniform[5] < flip, -1.0, 1.0) / zoom
        top, left = np.floor(uniform[6] * (height - shape[0] + 1)), np.floor(uniform[7] * (width - shape[1] + 1))
        gain = 1 + contrast * signed[8]
        offset = white / 2 * (1 - gain) + white * brightness * signed[9]
        # The map from output to input inverts the changes: undo crop and shift, then rotate and scale about the center.
        center_row, center_column = (height - 1) / 2, (width - 1) / 2
        row, column = center_row + down - top, center_column + right - left  # where the center is in the output
        a, b = row_factor * cosine, row_factor * sine
        c, d = column_factor * -sine, column_factor * cosine
        matrix = [a, b, center_row - a * row - b * column, c, d, center_column - c * row - d * column]
        transforms = np.stack([*matrix, gain, offset], axis=1)
    noise_scalars = {**random.key(seed, step), "noise": noise}
    return _resample(images, transforms, shape, border, fill, out, numbers, **noise_scalars)


def _resample(
    images: Array,
    transforms: Array,
    shape: Size,
    border: str,
    fill: float,
    out: Array | None,
    index: Array | None = None,
    **noise_scalars: float,
) -> Array:
    """Run the op; a transform is a matrix row by row, a gain and an offset."""
    border_id, is_uint8 = BORDERS.index(check_border("border", border)), images.dtype == np.uint8
    fill = check_representable("fill", validation.finite("fill", fill), _compute_dtype(images))
    if is_uint8 and not 0 <= fill <= 255:
        raise ValueError(f"fill must be a number from 0 to 255 for images of uint8, got {fill!r}")
    expected = (len(images), *shape, *images.shape[3:])
    if out is None:
        out = np.empty(expected, images.dtype)
    else:
        _check_images("out", out, writable=True)
        if out.dtype != images.dtype:
            raise TypeError(f"out must have dtype {images.dtype} like images, got {out.dtype}")
        if out.shape != expected:
            raise ValueError(f"out must have shape {expected}, got {out.shape}")
        check_no_overlap_with("out", out, {"images": images, "index": index})
    channels = images.shape[3] if images.ndim == 4 else 1
    arguments: dict[str, Any] = {"x": images, "y": out, "transforms": transforms, "index": index, "bytes": is_uint8}
    arguments |= {"seed": 0, "step": 0, "noise": 0, **noise_scalars, "border": border_id, "fill": fill}
    arguments |= {"height": images.shape[1], "width": images.shape[2], "channels": channels}
    arguments |= {"out_height": shape[0], "out_width": shape[1]}
    chunk = max(1, CHUNK_SIZE // (shape[1] * channels))  # rows
    _core.run("affine", arguments, len(images) * shape[0], chunk, out.size)
    return out


def _check_images(name: str, images: Any, *, writable: bool) -> None:
    """Check dtype, layout and shape of images."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"{name} must be an array of uint8, float32 or float64, got {type(images).__name__!r}")
    if images.dtype == np.uint8:  # check_array accepts float32 and float64 only
        _core.check_no_mask(images, name)
        if not images.flags.c_contiguous:
            raise ValueError(f"{name} must be C-contiguous, got shape {images.shape} with strides {images.strides}")
        if writable and not images.flags.writeable:
            raise ValueError(f"{name} must be writable, got a read-only array")
    elif images.dtype.kind != "f":
        raise TypeError(f"{name} must have dtype uint8, float32 or float64, got {images.dtype}")
    else:
        check_array(name, images, writable=writable)
    if images.ndim not in {3, 4} or 0 in images.shape[1:] or images.shape[3:] > (MAX_CHANNELS,):
        raise ValueError(
            f"{name} must have shape (N, H, W) or (N, H, W, C) with H, W and C at least 1 and C at most "
            f"{MAX_CHANNELS}, got {images.shape}"
        )
    _check_size(name, images.shape[1:], images)


def _output_size(name: str, value: Any, images: Array) -> Size:
    """Return height and width of the output, by default those of the images."""
    if value is None:
        return images.shape[1], images.shape[2]
    height, width = validation.pair(name, value, "two ints, height and width", validation.positive_count)
    _check_size(name, (height, width, *images.shape[3:]), images)
    return height, width


def _check_size(name: str, image_shape: tuple[int, ...], images: Array) -> None:
    max_side = MAX_SIDE[images.dtype.char]
    if max(image_shape[:2]) > max_side or math.prod(image_shape) > MAX_ELEMENTS:
        raise ValueError(
            f"{name} must have fewer than 2**31 elements per image, and for {images.dtype} at most {max_side} rows and "
            f"columns, got images of shape {image_shape}"
        )


def _compute_dtype(images: Array) -> np.dtype[Any]:
    return np.dtype(np.float32) if images.dtype == np.uint8 else images.dtype


def _check_scale(value: Any) -> tuple[float, float]:
    expected = "two numbers, the smallest and the largest"
    smallest, largest = validation.pair("scale", value, expected, validation.finite_positive)
    if smallest > largest:
        raise ValueError(f"scale must have the smallest factor first, got {value!r}")
    return smallest, largest


def _image_numbers(index: npt.ArrayLike | None, count: int) -> Array:
    if index is None:
        return np.arange(count)
    kinds = "iu" if count else "iuf"  # an empty list becomes an array of float64
    numbers = as_numeric_array("index", index, kinds, "integers, the number of each image")
    if numbers.shape != (count,):
        raise ValueError(f"index must have shape {(count,)}, the number of each image, got {numbers.shape}")
    if count and not 0 <= numbers.min() <= numbers.max() < MAX_IMAGES:
        raise ValueError(f"index must be in [0, 2**32), got numbers from {numbers.min()} to {numbers.max()}")
    return as_int64(numbers)


def _sine_and_cosine(degrees: Array) -> tuple[Array, Array]:
    """Return sine and cosine within 2e-16, with the same bits on every platform, unlike NumPy's.

    >>> [round(float(x[0]), 15) for x in _sine_and_cosine(np.array([30.0]))]
    [0.5, 0.866025403784439]
    """
    quarters = np.rint(degrees / 90)
    x = (degrees - 90 * quarters) * (math.pi / 180)  # in [-pi/4, pi/4]
    z = x * x
    *others, series = SERIES[:, :, None]
    for term in reversed(others):
        series = series * z + term
    sine, cosine = x + x * z * series[0], 1 + z * series[1]
    # sin(x + q pi/2) and cos(x + q pi/2) are sine or cosine of x, with either sign.
    odd = quarters % 2 == 1
    sine_sign, cosine_sign = np.where(quarters % 4 < 2, 1, -1), np.where((quarters + 1) % 4 < 2, 1, -1)
    return sine_sign * np.where(odd, cosine, sine), cosine_sign * np.where(odd, sine, cosine)
