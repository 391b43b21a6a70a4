r"""Image augmentation: rotate, scale, shift, flip, crop and change the colors of every image of a batch, in one pass.

Images are arrays of uint8, float32 or float64 with shape (N, H, W) or (N, H, W, C), in any memory order: they are only
read, and copied if they are not C-contiguous. Each side is at most 2**24 for uint8 and float32 (float32 represents the
coordinates), an image has fewer than 2**31 elements, and C is at most 1024.

Coordinates and values are computed in the dtype of the images, or for uint8 in float32; the results for uint8 are
rounded half to even and limited to [0, 255]. Random numbers are a function of seed, step and the number of the image.
They depend neither on the number of threads nor on the other images of the batch.

Label masks, of bool, integers or floats, move with their images: ``augment(images, masks=masks, ...)``. Each pixel is a
copy of the nearest one, so no label is invented. ``affine(masks, matrices, interpolation="nearest")`` does the same.

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
>>> masks = (images > 0.5).astype(np.uint8)
>>> geometry = {"rotate": 15, "translate": 0.1, "flip": 0.5}
>>> images, masks = augment(images, masks=masks, seed=0, step=7, noise=0.05, mask_fill=255, **geometry)
>>> images.shape, np.unique(masks)
((2, 8, 8), array([  0,   1, 255], dtype=uint8))
"""

from fastopt.augment._affine import affine
from fastopt.augment._augment import augment

__all__ = ["affine", "augment"]
