"""Augmentation, with the signatures of ``fastopt.augment``, which says what they do: image by image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt.reference._math import Array, logarithm
from fastopt.reference._random import philox

AUGMENTATION, NOISE = 3, 4
BLOCK = 64


def affine(
    images: Array, matrices: Any, *, shape: tuple[int, int] | None = None, border: str = "constant", fill: float = 0.0
) -> Array:
    """Give the input at M (i, j, 1) for each pixel (i, j).

    >>> affine(np.array([[[1.0, 2.0]]]), [[[1, 0, 0], [0, 1, 0.25]]], border="edge")
    array([[[1.25, 2.  ]]])
    """
    size = shape or images.shape[1:3]
    resampled = [
        _finished(_resampled(image, np.array(matrix, float), size, border, fill) + 0, images.dtype)  # no zero is -0
        for image, matrix in zip(images, matrices, strict=True)
    ]
    return np.array(resampled, images.dtype).reshape(len(images), *size, *images.shape[3:])


def augment(
    images: Array,
    *,
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
) -> Array:
    """Draw a matrix for each image and resample, then give c (x - m) + m + b + n.

    >>> augment(np.array([[[1.0, 2.0]]]), seed=0, step=0, flip=1)
    array([[[2., 1.]]])
    """
    white = 255.0 if images.dtype == np.uint8 else 1.0
    real = np.float32 if images.dtype == np.uint8 else images.dtype.type
    height, width = images.shape[1:3]
    size = crop or (height, width)
    row, column = (height - 1) / 2, (width - 1) / 2
    results = []
    for image, number in zip(images, range(len(images)) if index is None else index, strict=True):
        u = [(float(word) + 0.5) / 2**32 for word in _words(seed, step, AUGMENTATION, int(number))]
        sine, cosine = sine_and_cosine(rotate * (2 * u[0] - 1))
        zoom = scale[0] + (scale[1] - scale[0]) * u[1]
        down, across = translate * height * (2 * u[2] - 1), translate * width * (2 * u[3] - 1)
        vertical, horizontal = (-1 if u[4] < flip_vertical else 1) / zoom, (-1 if u[5] < flip else 1) / zoom
        top, left = math.floor(u[6] * (height - size[0] + 1)), math.floor(u[7] * (width - size[1] + 1))
        m = np.array([[vertical * cosine, vertical * sine, row], [-horizontal * sine, horizontal * cosine, column]])
        m[:, 2] = m[:, 2] - m[:, 0] * (row + down - top) - m[:, 1] * (column + across - left)
        gain = 1 + contrast * (2 * u[8] - 1)
        offset = white / 2 * (1 - gain) + white * brightness * (2 * u[9] - 1)
        x = real(gain) * _resampled(image, m, size, border, fill) + real(offset)
        if noise:
            blocks = -(-x.size // BLOCK)
            numbers = [normals(seed, step, int(number) * blocks + block, real) for block in range(blocks)]
            x = x + real(noise * white) * np.concatenate(numbers)[: x.size].reshape(x.shape)
        results.append(_finished(x, images.dtype))
    return np.array(results, images.dtype).reshape(len(images), *size, *images.shape[3:])


def normals(seed: int, step: int, block: int, real: type = np.float64) -> Array:
    """Give the 64 normal numbers of a block: by Box & Muller from two words each two.

    >>> bool(abs(normals(0, 0, 0)).max() < 6.7)
    True
    """
    words = _words(seed, step, NOISE, block)
    u = ((words[:32] >> 1).astype(real) + real(0.5)) * real(2**-31)
    radius = np.sqrt(-2 * logarithm(u))
    quarters = (words[32:].astype(np.int64) + 2**29) // 2**30
    x = (words[32:].astype(np.int64) - quarters * 2**30).astype(real) * real(math.pi / 2**31)
    z = x * x
    over = [real(1 / math.factorial(k)) for k in range(10)]
    sine = x + x * z * (((z * over[9] - over[7]) * z + over[5]) * z - over[3])
    cosine = 1 + z * (((z * over[8] - over[6]) * z + over[4]) * z - over[2])
    of_quarters = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)]
    across, along = (np.choose(quarters % 4, each) for each in zip(*of_quarters, strict=True))
    return np.concatenate([radius * across, radius * along])


def sine_and_cosine(degrees: float) -> tuple[float, float]:
    """Give them by their series, of the nearest quarter turn and what is left.

    >>> sine_and_cosine(180.0)[1]
    -1.0
    """
    quarters = round(degrees / 90)
    x = (degrees - 90 * quarters) * (math.pi / 180)
    z, of_sine, of_cosine = x * x, 0.0, 0.0
    for k in range(8, 0, -1):
        of_sine = of_sine * z + (-1) ** k / math.factorial(2 * k + 1)
        of_cosine = of_cosine * z + (-1) ** k / math.factorial(2 * k)
    sine, cosine = x + x * z * of_sine, 1 + z * of_cosine
    return [(sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine)][quarters % 4]


def _words(seed: int, step: int, stream: int, block: int) -> Array:
    counters = np.arange(16, dtype=np.uint64) + np.uint64(16 * block)
    return np.concatenate(philox(counters, seed, step, stream))


def _resampled(image: Array, matrix: Array, size: Any, border: str, fill: float) -> Array:
    real = np.float32 if image.dtype == np.uint8 else image.dtype.type
    image = image.astype(real)
    rows, columns = np.arange(size[0], dtype=float), np.arange(size[1]).astype(real)
    with np.errstate(all="ignore"):  # giants, and what is not a number
        y, x = (((m[0] * rows + m[2]).astype(real)[:, None] + columns * real(m[1])).astype(real) for m in matrix)
        (top, below), (of_top, of_below) = _neighbours(y, image.shape[0], border)
        (left, behind), (of_left, of_behind) = _neighbours(x, image.shape[1], border)
    if image.ndim == 3:  # the channels
        of_top, of_below, of_left, of_behind = (weight[..., None] for weight in (of_top, of_below, of_left, of_behind))
    upper = of_left * image[top, left] + of_behind * image[top, behind]
    lower = of_left * image[below, left] + of_behind * image[below, behind]
    outside = (1 - (of_top + of_below) * (of_left + of_behind)) * real(fill)
    result: Array = of_top * upper + of_below * lower + outside
    return result


def _neighbours(x: Array, size: int, border: str) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Give the indices of two neighbours of each coordinate, and their weights."""
    real, magic = x.dtype.type, x.dtype.type(1.5 * 2 ** np.finfo(x.dtype).nmant)
    if border == "reflect":
        period = real(2 * (size - 1))
        x = np.abs(x - period * ((x / period + magic) - magic))
    least, most = (-1, size) if border == "constant" else (0, size - 1)
    x = np.clip(np.where(np.isnan(x), real(least), x), real(least), real(most))
    near = np.minimum(np.maximum(x, 0).astype(np.int64), max(size - 2, 0))
    distance = x - near.astype(real)
    reach = real(1 if size > 1 else 2)
    weights = tuple(np.maximum(1 - np.abs(d), real(0)) for d in (distance, distance - reach))
    return (near, np.minimum(near + 1, size - 1)), (weights[0], weights[1])


def _finished(x: Array, dtype: Any) -> Array:
    return np.rint(np.clip(x, 0, 255)).astype(dtype) if dtype == np.uint8 else x
