"""Resampling with given matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastopt._util.arrays import Array, as_numeric_array
from fastopt.augment import _images
from fastopt.augment._images import Border, Interpolation, Size


def affine(
    images: Array,
    matrices: npt.ArrayLike,
    *,
    shape: Size | None = None,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    fill: float = 0.0,
    out: Array | None = None,
) -> Array:
    r"""Resample images with affine maps.

    .. math:: y_{ij} = x(M (i, j, 1)^T)

    Parameters
    ----------
    images : ndarray of uint8, float32 or float64, shape (N, H, W) or (N, H, W, C)
        Input x. With ``interpolation="nearest"``, of bool or of any integers or floats.
    matrices : array-like of shape (N, 2, 3)
        Matrix M for each image. It maps row and column of an output pixel to row and column in the input, in pixels.
    shape : tuple of two ints, optional
        Height and width of the output. Default: those of the input.
    interpolation : {"bilinear", "nearest"}, default "bilinear"
        The weighted mean of the four nearest pixels, or a copy of the nearest one, for label masks.
    border : {"constant", "edge", "reflect"}, default "constant"
        Pixels outside the input: ``fill``, the nearest pixel, or the mirror image.
    fill : float, default 0.0
        Value of pixels outside the input for ``border="constant"``; from 0 to 255 for uint8. With
        ``interpolation="nearest"``, a value of the dtype of ``images``.
    out : ndarray, optional
        Array for the result, C-contiguous, with the dtype of ``images``. It may not overlap them.

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
    The convention is that of ``scipy.ndimage.affine_transform`` with ``order=1``, or for the nearest pixel ``order=0``:
    coordinates are computed in float64 and rounded half up. One point differs: half a pixel past the last row or column
    with ``border="reflect"``, where SciPy takes the last pixel but one, and this function the last. OpenCV's
    ``warpAffine`` has columns before rows, and by default the inverse of M.

    Examples
    --------
    >>> quarter_turn = [[[0, 1, 0], [-1, 0, 1]]]
    >>> affine(np.array([[[1.0, 2.0], [3.0, 4.0]]]), quarter_turn)
    array([[[2., 4.],
            [1., 3.]]])

    Move a mask by half a pixel; its labels stay what they are:

    >>> affine(np.array([[[0, 4, 1]]]), [[[1, 0, 0], [0, 1, 0.5]]], interpolation="nearest", fill=255)
    array([[[  4,   1, 255]]])
    """
    nearest = _images.check_interpolation("interpolation", interpolation) == "nearest"
    images = _images.as_input("images", images, nearest=nearest)
    expected = (len(images), 2, 3)
    matrices = as_numeric_array("matrices", matrices, "biuf", f"numbers of shape {expected}")
    if matrices.shape != expected:
        raise ValueError(f"matrices must have shape {expected}, a matrix for each image, got {matrices.shape}")
    transforms = np.empty((len(images), 8))
    transforms[:, :6] = matrices.reshape(-1, 6)
    if not np.isfinite(transforms[:, :6]).all():
        raise ValueError("matrices must be finite, got NaN or infinity")
    transforms[:, 6:] = 1, 0  # gain, offset
    size = _images.output_size("shape", shape, images, nearest=nearest)
    out = _images.output("out", out, images, size, {"images": images})
    if nearest:
        return _images.run("nearest", _images.nearest_arguments(images, transforms, border, "fill", fill, out))
    return _images.run("affine", _images.bilinear_arguments(images, transforms, border, fill, out))
