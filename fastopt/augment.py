r"""Augmentation: every image of a batch turned, scaled, shifted, flipped, cropped and shaded at random, in one pass.

Images are uint8, float32 or float64, C-contiguous, of the shape (N, H, W) or (N, H, W, C). What is drawn is a function
of seed, step and the number of the image, so it is the same on any number of threads and in any batch. Coordinates and
values are computed in the type of the images, of uint8 in float32; these are rounded, half to even, and kept within 0
and 255. Nothing is written if an argument can't be used: ``TypeError`` for another kind of thing or dtype,
``ValueError`` for another shape or a number out of range.

A ``border`` says what lies outside an image: ``"constant"``, everywhere ``fill``; ``"edge"``, the nearest pixel; or
``"reflect"``, the image mirrored at its outermost pixels, which are not repeated. These are NumPy's names for ``pad``;
SciPy's are ``"grid-constant"``, ``"nearest"`` and ``"mirror"``.

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
from fastopt._util import random
from fastopt._util.arrays import Array, apart, checked, held, numbers
from fastopt._util.validation import choice, finite, finite_positive, fraction, non_negative, number, positive_count

__all__ = ["affine", "augment"]

Border: TypeAlias = Literal["constant", "edge", "reflect"]
Shape: TypeAlias = "tuple[int, int]"

GRAIN = 16384  # elements that a thread does at a time
MOST_CHANNELS = 1024
MOST_ELEMENTS = 2**31 - 1  # of an image
MOST_SIDE = {"B": 2**24, "f": 2**24, "d": MOST_ELEMENTS}  # whole numbers that the type of coordinates has
MOST_IMAGES = 2**32
BORDERS = ("constant", "edge", "reflect")  # in the order of csrc/images.h
DRAWS = 10  # numbers of an image, of the 64 of its block

# sin(x) = x + x z S(z) and cos(x) = 1 + z C(z), where z = x^2: the terms of the series, alternating.
SERIES = np.array([[(-1) ** k / math.factorial(2 * k + 1), (-1) ** k / math.factorial(2 * k)] for k in range(1, 9)])

_border = choice(*BORDERS)
_half_turn = number("degrees from 0 to 180", lambda x: 0 <= x <= 180)


def affine(
    images: Array,
    matrices: npt.ArrayLike,
    *,
    shape: Shape | None = None,
    border: Border = "constant",
    fill: float = 0.0,
    out: Array | None = None,
) -> Array:
    r"""Give images resampled: the pixel (i, j) is the input at :math:`M (i, j, 1)^T`, between pixels bilinear.

    ``matrices`` has an M for each image, row by row (N, 2, 3): it takes a row and a column of the output to those of
    the input, as ``scipy.ndimage.affine_transform`` has it. ``shape`` (H', W') is that of the output, else (H, W).
    ``border`` and ``fill`` are explained above; ``fill`` is a value of a pixel. ``out`` is memory of its own.

    >>> quarter_turn = [[[0, 1, 0], [-1, 0, 1]]]
    >>> affine(np.array([[[1.0, 2.0], [3.0, 4.0]]]), quarter_turn)
    array([[[2., 4.],
            [1., 3.]]])
    """
    _check_images("images", images)
    matrices = numbers("matrices", matrices, "fiu", f"numbers of the shape {(len(images), 2, 3)}")
    if matrices.shape != (len(images), 2, 3):
        raise ValueError(f"matrices has shape {matrices.shape}; wants {(len(images), 2, 3)}, a matrix for each image")
    transforms = np.empty((len(images), 8))
    with np.errstate(over="ignore"):  # of longer floats, which are looked at below
        transforms[:, :6] = matrices.reshape(-1, 6)
    if not np.isfinite(transforms[:, :6]).all():
        raise ValueError("matrices has numbers that are not finite in float64; wants finite ones")
    transforms[:, 6:] = 1, 0
    return _resampled(images, transforms, _shape("shape", shape, images), border, fill, out)


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
    crop: Shape | None = None,
    contrast: float = 0.0,
    brightness: float = 0.0,
    noise: float = 0.0,
    border: Border = "constant",
    fill: float = 0.0,
    out: Array | None = None,
) -> Array:
    r"""Give images changed at random: resampled as by ``affine``, then :math:`x \leftarrow c (x - m) + m + b + n`.

    An image is flipped left to right with probability ``flip``, and upside down with ``flip_vertical``; turned about
    its centre by up to ``rotate`` degrees, either way; magnified by a factor between the two of ``scale``; and shifted
    by up to the fraction ``translate`` of its height and of its width. Of the result ``crop`` (H', W') is cut out at
    a random place of whole pixels. All of these are drawn uniformly.

    The factor c is in :math:`1 \pm` ``contrast``, and with white w = 255 for uint8, else 1, the middle is m = w / 2,
    b is in :math:`\pm` ``brightness`` w, and n is normal with deviation ``noise`` w, drawn for each element.

    What is drawn depends on ``seed``, ``step`` and the number of an image: its place in the batch, or what ``index``
    says, integers (N,), such as its number in the data set. Each thing has a number of its own: with the same seed,
    step and options of the geometry, masks (N, H, W) move as their images do. ``border``, ``fill`` and ``out`` are as
    for ``affine``; what is filled in is shaded too.

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
    _check_images("images", images)
    white = 255.0 if images.dtype == np.uint8 else 1.0
    height, width = images.shape[1:3]
    shape = _shape("crop", crop, images)
    if shape[0] > height or shape[1] > width:
        raise ValueError(f"crop is {crop!r}; wants at most {(height, width)}, the size of the images")
    least, most = _two("scale", scale)
    rotate, translate = _half_turn("rotate", rotate), non_negative("translate", translate)
    flip, flip_vertical = fraction("flip", flip), fraction("flip_vertical", flip_vertical)
    contrast, brightness = non_negative("contrast", contrast), non_negative("brightness", brightness)
    noise, places = non_negative("noise", noise), _index(index, len(images))
    noise = white * held("noise", noise, _type_of(images))

    words = random.words_of_blocks(seed, step, random.AUGMENTATION, places)[:, :DRAWS].T
    with np.errstate(all="ignore"):  # of numbers beyond a float, which lead out of the image
        uniform = (words + 0.5) * 2.0**-32
        either_way = 2 * uniform - 1
        sine, cosine = _sine_and_cosine(rotate * either_way[0])
        zoom = least + (most - least) * uniform[1]
        down, across = translate * height * either_way[2], translate * width * either_way[3]
        vertical = np.where(uniform[4] < flip_vertical, -1.0, 1.0) / zoom
        horizontal = np.where(uniform[5] < flip, -1.0, 1.0) / zoom
        top, left = np.floor(uniform[6] * (height - shape[0] + 1)), np.floor(uniform[7] * (width - shape[1] + 1))
        gain = 1 + contrast * either_way[8]
        # A place goes the way back: out of the crop and the shift, turned about the centre, flipped there.
        transforms = np.empty((len(images), 8))
        row, column = (height - 1) / 2, (width - 1) / 2
        for k, (by_row, by_column, centre) in enumerate(
            [(vertical * cosine, vertical * sine, row), (horizontal * -sine, horizontal * cosine, column)]
        ):
            transforms[:, 3 * k], transforms[:, 3 * k + 1] = by_row, by_column
            transforms[:, 3 * k + 2] = centre - by_row * (row + down - top) - by_column * (column + across - left)
        transforms[:, 6], transforms[:, 7] = gain, white / 2 * (1 - gain) + white * brightness * either_way[9]
    drawn = {**random.key(seed, step), "noise": noise}
    return _resampled(images, transforms, shape, border, fill, out, places, **drawn)


# What they share


def _resampled(
    images: Array,
    transforms: Array,
    shape: Shape,
    border: str,
    fill: float,
    out: Array | None,
    index: Array | None = None,
    **drawn: float,
) -> Array:
    place, of_bytes = BORDERS.index(_border("border", border)), images.dtype == np.uint8
    fill = held("fill", finite("fill", fill), _type_of(images))
    if of_bytes and not 0 <= fill <= 255:
        raise ValueError(f"fill is {fill!r}; wants a number from 0 to 255, as images of uint8 have")
    wanted = (len(images), *shape, *images.shape[3:])
    if out is None:
        out = np.empty(wanted, images.dtype)
    else:
        _check_images("out", out, written=True)
        if out.dtype != images.dtype:
            raise TypeError(f"out has dtype {out.dtype}; wants {images.dtype}, as images")
        if out.shape != wanted:
            raise ValueError(f"out has shape {out.shape}; wants {wanted}")
        apart("out", out, {"images": images, "index": index})
    channels = images.shape[3] if images.ndim == 4 else 1
    arguments: dict[str, Any] = {"x": images, "y": out, "transforms": transforms, "index": index, "bytes": of_bytes}
    arguments |= {"seed": 0, "step": 0, "noise": 0, **drawn, "border": place, "fill": fill}
    arguments |= {"height": images.shape[1], "width": images.shape[2], "channels": channels}
    arguments |= {"out_height": shape[0], "out_width": shape[1]}
    grain = max(1, GRAIN // (shape[1] * channels))
    _core.run("affine", arguments, len(images) * shape[0], grain, out.size)
    return out


def _check_images(name: str, images: Any, written: bool = False) -> None:
    """Raise what is wrong with images; of uint8 too, which the core doesn't take for numbers."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"{name} is a {type(images).__name__!r}; wants an array of uint8, float32 or float64")
    if images.dtype == np.uint8:
        _core.check_no_mask(images, name)
        if not images.flags.c_contiguous:
            raise ValueError(f"{name} is not C-contiguous: shape {images.shape}; wants a C-contiguous array")
        if written and not images.flags.writeable:
            raise ValueError(f"{name} is read-only; wants an array that can be written")
    elif images.dtype.kind != "f":
        raise TypeError(f"{name} has dtype {images.dtype}; wants uint8, float32 or float64")
    else:
        checked(name, images, written)
    if images.ndim not in {3, 4} or 0 in images.shape[1:] or images.shape[3:] > (MOST_CHANNELS,):
        raise ValueError(
            f"{name} has shape {images.shape}; wants (N, H, W) or (N, H, W, C), each at least 1 and C up to 1024"
        )
    _check_size(name, images.shape, images.shape[1:], images)


def _shape(name: str, value: Any, images: Array) -> Shape:
    """Give height and width of the output, by default those of the images."""
    if value is None:
        return images.shape[1], images.shape[2]
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} is {value!r}; wants two ints, height and width")
    height, width = (positive_count(f"{name}[{i}]", size) for i, size in enumerate(value))
    _check_size(name, value, (height, width, *images.shape[3:]), images)
    return height, width


def _check_size(name: str, value: Any, of_image: tuple[int, ...], images: Array) -> None:
    most = MOST_SIDE[images.dtype.char]
    if max(of_image[:2]) > most or math.prod(of_image) > MOST_ELEMENTS:
        raise ValueError(
            f"{name} is {value}; wants less than 2^31 elements in an image, and of {images.dtype} at most {most} rows "
            "and columns"
        )


def _type_of(images: Array) -> np.dtype[Any]:
    """Give the type that values are computed in."""
    return np.dtype(np.float32) if images.dtype == np.uint8 else images.dtype


def _two(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} is {value!r}; wants two numbers, the least and the most")
    least, most = (finite_positive(f"{name}[{i}]", factor) for i, factor in enumerate(value))
    if least > most:
        raise ValueError(f"{name} is {value!r}; wants the least before the most")
    return least, most


def _index(index: npt.ArrayLike | None, count: int) -> Array:
    if index is None:
        return np.arange(count)
    places = numbers("index", index, "iu" if count else "iuf", "integers, the number of each image")
    if places.shape != (count,):
        raise ValueError(f"index has shape {places.shape}; wants {(count,)}, the number of each image")
    if count and not 0 <= places.min() <= places.max() < MOST_IMAGES:
        raise ValueError(f"index has numbers from {places.min()} to {places.max()}; wants some in [0, 2^32)")
    return np.ascontiguousarray(places, np.int64)


def _sine_and_cosine(degrees: Array) -> tuple[Array, Array]:
    """Give them within 2e-16, the same on every platform, which NumPy's own are not.

    >>> [round(float(x[0]), 15) for x in _sine_and_cosine(np.array([30.0]))]
    [0.5, 0.866025403784439]
    """
    quarters = np.rint(degrees / 90)
    x = (degrees - 90 * quarters) * (math.pi / 180)
    z = x * x
    *others, series = SERIES[:, :, None]
    for term in reversed(others):
        series = series * z + term
    sine, cosine = x + x * z * series[0], 1 + z * series[1]
    odd, up, right = quarters % 2 == 1, quarters % 4 < 2, (quarters + 1) % 4 < 2
    across, along = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    return np.where(up, along, -along), np.where(right, across, -across)
