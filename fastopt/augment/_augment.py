"""Random changes of images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastopt._util import random, validation
from fastopt._util.arrays import Array, as_int64, as_numeric_array, check_representable
from fastopt.augment import _images
from fastopt.augment._images import Border, Size

MAX_IMAGES = 2**32
NUM_DRAWS = 10  # random numbers used per image, of a block of 64

# Taylor series with z = x^2: sin(x) = x + x z (S[0] + S[1] z + ...), cos(x) = 1 + z (C[0] + C[1] z + ...).
SERIES = np.array([[(-1) ** k / math.factorial(2 * k + 1), (-1) ** k / math.factorial(2 * k)] for k in range(1, 9)])

check_rotation = validation.number("a number of degrees from 0 to 180", lambda x: 0 <= x <= 180)


def augment(
    images: Array,
    *,
    masks: Array | None = None,
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
    mask_fill: float = 0.0,
    out: Array | tuple[Array | None, Array | None] | None = None,
) -> Any:
    r"""Change each image at random: geometry, contrast, brightness and noise, in one pass.

    An image is flipped, rotated about its center, scaled and shifted, resampled with bilinear interpolation, and
    cropped. Then, with w = 255 for uint8 and 1 otherwise,

    .. math:: y = c\, (x - w / 2) + w / 2 + b + n

    Label masks get the same geometry, and nothing else: each of their pixels is a copy of the nearest one.

    Parameters
    ----------
    images : ndarray of uint8, float32 or float64, shape (N, H, W) or (N, H, W, C)
        Input x. Floats are expected in [0, 1], but not checked.
    masks : ndarray of bool, integers or floats, shape (N, H, W) or (N, H, W, K), optional
        A label mask for each image, or K of them.
    seed : int
        From 0 to 2**64 - 1.
    step : int
        Any number from 0 to 2**53 - 1 that differs between batches: ``optimizer.steps``, or ``optimizer.micro_steps``
        if batches are accumulated in parts.
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
    mask_fill : float, default 0.0
        Value of mask pixels outside the input for ``border="constant"``, of the dtype of ``masks``. For example 255, if
        the loss ignores that label.
    out : ndarray, optional
        Array for the result, C-contiguous, with the dtype of ``images``. It may not overlap an input. With masks, a
        tuple of two: for the images and for the masks. Either may be None.

    Returns
    -------
    ndarray, or with masks a tuple of two
        The images, shape (N, H', W') or (N, H', W', C), and the masks: ``out``, or new arrays in the dtypes of the
        inputs.

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
    Each change uses its own random number, so no option changes the effect of another. Albumentations has
    ``mask``/``masks`` and ``fill_mask`` for ``masks`` and ``mask_fill``; torchvision moves a ``tv_tensors.Mask``.

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
    >>> images, masks = augment(images, masks=images > 9, seed=0, step=1, flip=0.5)
    >>> masks[1]
    array([[ True,  True, False],
           [ True,  True,  True],
           [ True,  True,  True]])
    """
    images = _images.as_input("images", images, nearest=False)
    white = 255.0 if images.dtype == np.uint8 else 1.0
    height, width = images.shape[1:3]
    shape = _images.output_size("crop", crop, images, nearest=False)
    if shape[0] > height or shape[1] > width:
        raise ValueError(f"crop must be at most {(height, width)}, the size of the images, got {crop!r}")
    min_scale, max_scale = _check_scale(scale)
    rotate, translate = check_rotation("rotate", rotate), validation.non_negative("translate", translate)
    flip, flip_vertical = validation.fraction("flip", flip), validation.fraction("flip_vertical", flip_vertical)
    contrast = validation.non_negative("contrast", contrast)
    brightness = validation.non_negative("brightness", brightness)
    noise, numbers = validation.non_negative("noise", noise), _image_numbers(index, len(images))
    noise = white * check_representable("noise", noise, _images.compute_dtype(images))

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
    inputs, noise_scalars = {"images": images, "index": numbers}, {**random.key(seed, step), "noise": noise}
    if masks is None:
        out = _images.output("out", out, images, shape, inputs)
        bilinear = _images.bilinear_arguments(images, transforms, border, fill, out, numbers, **noise_scalars)
        return _images.run("affine", bilinear)
    inputs["masks"] = masks = _images.as_input("masks", masks, nearest=True)
    if masks.shape[:3] != images.shape[:3]:
        raise ValueError(f"masks must have shape {images.shape[:3]} like the images, got {masks.shape[:3]}")
    image_out, mask_out = (None, None) if out is None else _check_pair(out)
    image_out = _images.output("out[0]", image_out, images, shape, inputs)
    mask_out = _images.output("out[1]", mask_out, masks, shape, {**inputs, "out[0]": image_out})
    bilinear = _images.bilinear_arguments(images, transforms, border, fill, image_out, numbers, **noise_scalars)
    nearest = _images.nearest_arguments(masks, transforms, border, "mask_fill", mask_fill, mask_out)
    return _images.run("affine", bilinear), _images.run("nearest", nearest)


def _check_pair(out: Any) -> tuple[Any, Any]:
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"out must be a tuple of two, for images and masks, got {type(out).__name__!r}")
    return out[0], out[1]


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
