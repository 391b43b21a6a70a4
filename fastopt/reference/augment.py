"""Augmentation in NumPy, one image at a time, with the bits of `fastopt.augment`, which describes the arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt.reference._common import Array
from fastopt.reference._math import log
from fastopt.reference._random import BLOCK, words

AUGMENTATION, NOISE = 3, 4  # streams of random numbers


def affine(
    images: Array,
    matrices: Any,
    *,
    shape: tuple[int, int] | None = None,
    interpolation: str = "bilinear",
    border: str = "constant",
    fill: float = 0.0,
) -> Array:
    """Return the input at M (i, j, 1) for each output pixel (i, j).

    Examples
    --------
    >>> affine(np.array([[[1.0, 2.0]]]), [[[1, 0, 0], [0, 1, 0.25]]], border="edge")
    array([[[1.25, 2.  ]]])
    """
    size = shape or images.shape[1:3]
    resampled = []
    for image, matrix in zip(images, np.array(matrices, float), strict=True):
        if interpolation == "nearest":
            resampled.append(_nearest(image, matrix, size, border, fill))
        else:  # + 0: no -0.0
            resampled.append(_to_dtype(_resample(image, matrix, size, border, fill) + 0, images.dtype))
    return np.array(resampled, images.dtype).reshape(len(images), *size, *images.shape[3:])


def augment(
    images: Array,
    *,
    masks: Any = None,
    seed: int,
    step: int,
    index: Any = None,
    rotate: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    translate: float = 0.0,
    flip: float = 0.0,
    flip_vertical: float = 0.0,
    crop: tuple[int, int] | None = None,
    contrast: float = 0.0,
    brightness: float = 0.0,
    noise: float = 0.0,
    border: str = "constant",
    fill: float = 0.0,
    mask_fill: float = 0.0,
) -> Any:
    """Resample each image with a random matrix, and return c (x - m) + m + b + n; copy the nearest pixels of masks.

    Examples
    --------
    >>> augment(np.array([[[1.0, 2.0]]]), seed=0, step=0, flip=1)
    array([[[2., 1.]]])
    """
    white = 255.0 if images.dtype == np.uint8 else 1.0
    real = np.float32 if images.dtype == np.uint8 else images.dtype.type
    height, width = images.shape[1:3]
    size = crop or (height, width)
    row, column = (height - 1) / 2, (width - 1) / 2
    results, matrices = [], np.empty((len(images), 2, 3))
    for image, m, number in zip(images, matrices, range(len(images)) if index is None else index, strict=True):
        u = [(float(word) + 0.5) / 2**32 for word in words(seed, step, AUGMENTATION, 10, int(number))]
        sine, cosine = sine_and_cosine(rotate * (2 * u[0] - 1))
        zoom = scale[0] + (scale[1] - scale[0]) * u[1]
        down, across = translate * height * (2 * u[2] - 1), translate * width * (2 * u[3] - 1)
        vertical, horizontal = (-1 if u[4] < flip_vertical else 1) / zoom, (-1 if u[5] < flip else 1) / zoom
        top, left = math.floor(u[6] * (height - size[0] + 1)), math.floor(u[7] * (width - size[1] + 1))
        m[...] = [vertical * cosine, vertical * sine, row], [-horizontal * sine, horizontal * cosine, column]
        m[:, 2] = m[:, 2] - m[:, 0] * (row + down - top) - m[:, 1] * (column + across - left)
        gain = 1 + contrast * (2 * u[8] - 1)
        offset = white / 2 * (1 - gain) + white * brightness * (2 * u[9] - 1)
        x = real(gain) * _resample(image, m, size, border, fill) + real(offset)
        if noise:
            blocks = -(-x.size // BLOCK)
            numbers = [normals(seed, step, int(number) * blocks + block, real) for block in range(blocks)]
            x = x + real(noise * white) * np.concatenate(numbers)[: x.size].reshape(x.shape)
        results.append(_to_dtype(x, images.dtype))
    moved = np.array(results, images.dtype).reshape(len(images), *size, *images.shape[3:])
    if masks is None:
        return moved
    return moved, affine(masks, matrices, shape=size, interpolation="nearest", border=border, fill=mask_fill)


def normals(seed: int, step: int, block: int, real: type = np.float64) -> Array:
    """Return the 64 normal numbers of a block, by the Box-Muller method from 64 words.

    >>> bool(abs(normals(0, 0, 0)).max() < 6.7)
    True
    """
    drawn = words(seed, step, NOISE, BLOCK, block)
    u = ((drawn[:32] >> 1).astype(real) + real(0.5)) * real(2**-31)
    radius = np.sqrt(-2 * log(u))
    quarters = (drawn[32:].astype(np.int64) + 2**29) // 2**30
    x = (drawn[32:].astype(np.int64) - quarters * 2**30).astype(real) * real(math.pi / 2**31)
    z = x * x
    c = [real(1 / math.factorial(k)) for k in range(10)]  # coefficients of the Taylor series
    sine = x + x * z * (((z * c[9] - c[7]) * z + c[5]) * z - c[3])
    cosine = 1 + z * (((z * c[8] - c[6]) * z + c[4]) * z - c[2])
    by_quarter = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)]
    across, along = (np.choose(quarters % 4, each) for each in zip(*by_quarter, strict=True))
    return np.concatenate([radius * across, radius * along])


def sine_and_cosine(degrees: float) -> tuple[float, float]:
    """Return sine and cosine by their series around the nearest multiple of 90 degrees.

    >>> sine_and_cosine(180.0)[1]
    -1.0
    """
    quarters = round(degrees / 90)
    x = (degrees - 90 * quarters) * (math.pi / 180)
    z, sine_series, cosine_series = x * x, 0.0, 0.0
    for k in range(8, 0, -1):
        sine_series = sine_series * z + (-1) ** k / math.factorial(2 * k + 1)
        cosine_series = cosine_series * z + (-1) ** k / math.factorial(2 * k)
    sine, cosine = x + x * z * sine_series, 1 + z * cosine_series
    return [(sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine)][quarters % 4]


def _resample(image: Array, matrix: Array, size: Any, border: str, fill: float) -> Array:
    """Return the image at the mapped coordinates, bilinearly interpolated, with a last axis for the channels."""
    real = np.float32 if image.dtype == np.uint8 else image.dtype.type
    image = image.astype(real) if image.ndim == 3 else image.astype(real)[..., None]
    rows, columns = np.arange(size[0], dtype=float), np.arange(size[1]).astype(real)
    with np.errstate(all="ignore"):  # huge, infinite and NaN coordinates
        y, x = (((m[0] * rows + m[2]).astype(real)[:, None] + columns * real(m[1])).astype(real) for m in matrix)
        (top, bottom), (top_weight, bottom_weight) = _neighbors(y, image.shape[0], border)
        (left, right), (left_weight, right_weight) = _neighbors(x, image.shape[1], border)
    upper = left_weight * image[top, left] + right_weight * image[top, right]
    lower = left_weight * image[bottom, left] + right_weight * image[bottom, right]
    outside = (1 - (top_weight + bottom_weight) * (left_weight + right_weight)) * real(fill)
    return top_weight * upper + bottom_weight * lower + outside


def _nearest(image: Array, matrix: Array, size: Any, border: str, fill: float) -> Array:
    """Return the nearest pixels of the mapped coordinates, which are float64 and rounded half up."""
    i, j = np.arange(size[0], dtype=float)[:, None], np.arange(size[1], dtype=float)
    with np.errstate(all="ignore"):
        places = [
            _limit((m[0] * i + m[2]) + j * m[1], n, border) + 0.5 for m, n in zip(matrix, image.shape, strict=False)
        ]
    rows, columns = (place.astype(np.int64) for place in places)
    inside = np.logical_and(*((place >= 0) & (place < n) for place, n in zip(places, image.shape, strict=False)))
    pixels = np.full((*size, *image.shape[2:]), fill, image.dtype)
    pixels[inside] = image[rows[inside], columns[inside]]
    return pixels


def _limit(x: Array, size: int, border: str) -> Array:
    """Return coordinates within an axis, or for a constant border at most one pixel outside it."""
    real, magic = x.dtype.type, x.dtype.type(1.5 * 2 ** np.finfo(x.dtype).nmant)  # rounds what it is added to
    if border == "reflect":
        period = real(2 * (size - 1))
        x = np.abs(x - period * ((x / period + magic) - magic))
    low, high = (-1, size) if border == "constant" else (0, size - 1)
    return np.clip(np.where(np.isnan(x), real(low), x), real(low), real(high))


def _neighbors(x: Array, size: int, border: str) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return the indices of the two neighbors of each coordinate, and their weights, with an axis for the channels."""
    real, x = x.dtype.type, _limit(x, size, border)
    near = np.minimum(np.maximum(x, 0).astype(np.int64), max(size - 2, 0))
    distance = x - near.astype(real)
    spacing = real(1 if size > 1 else 2)  # a single pixel has no second neighbor: weight 0
    weight, next_weight = (np.maximum(1 - np.abs(d), real(0))[..., None] for d in (distance, distance - spacing))
    return (near, np.minimum(near + 1, size - 1)), (weight, next_weight)


def _to_dtype(x: Array, dtype: Any) -> Array:
    """Return x as uint8, rounded and clipped, if that is the dtype."""
    return np.rint(np.clip(x, 0, 255)).astype(dtype) if dtype == np.uint8 else x
