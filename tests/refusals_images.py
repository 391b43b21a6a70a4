"""Refused arguments of augmentation."""

from __future__ import annotations

from functools import partial

import numpy as np
from cases import read_only

from fastopt.augment import affine, augment

X, M = np.zeros((2, 4, 4), np.float32), np.zeros((2, 2, 3))
BYTES = np.zeros((2, 4, 4), np.uint8)
WIDE = np.zeros((1, 1, 2**24 + 1), np.uint8)
ONE = [[[1.0, 0, 0], [0, 1, 0]]]
MISALIGNED = np.zeros(129, np.uint8)[1:].view(np.float32).reshape(X.shape)
NUMBERS = np.arange(4)
MASKED = "must be an array without a mask, got a masked array"
NUMBERS_OF_SHAPE = "matrices must be numbers of shape (2, 2, 3), got "
IMAGES = "images must have shape (N, H, W) or (N, H, W, C) with H, W and C at least 1 and C at most 1024, got "
BILINEAR = "uint8, float32 or float64 for bilinear interpolation"
NEAREST = "bool, integers or floats"
LARGE = " must have fewer than 2**31 elements per image, ..., got images of shape "

REFUSALS = [
    (partial(affine, images, M), error, message)
    for images, error, message in [
        ([[[1.0]]], TypeError, f"images must be an array of {BILINEAR}, got 'list'"),
        (X.astype(int), TypeError, f"images must have dtype {BILINEAR}, got int64"),
        (BYTES > 0, TypeError, f"images must have dtype {BILINEAR}, got bool"),
        (X.astype(np.float16), TypeError, f"images must have dtype {BILINEAR}, got float16"),
        (X.astype(">f4"), TypeError, f"images must have dtype {BILINEAR}, got >f4"),
        (np.ma.masked_array(BYTES), TypeError, f"images {MASKED}"),
        (X[0], ValueError, f"{IMAGES}(4, 4)"),
        (np.zeros((2, 0, 4)), ValueError, f"{IMAGES}(2, 0, 4)"),
        (np.zeros((2, 2, 2, 1025)), ValueError, f"{IMAGES}(2, 2, 2, 1025)"),
    ]
]
REFUSALS += [
    (partial(affine, X, matrices), error, message)
    for matrices, error, message in [
        (M[:1], ValueError, "matrices must have shape (2, 2, 3), a matrix for each image, got (1, 2, 3)"),
        (M * np.nan, ValueError, "matrices must be finite, got NaN or infinity"),
        (M + np.inf, ValueError, "matrices must be finite, got NaN or infinity"),
        (M.astype(str), TypeError, NUMBERS_OF_SHAPE + "'ndarray' of dtype <U32"),
        (M.astype(complex), TypeError, NUMBERS_OF_SHAPE + "'ndarray' of dtype complex128"),
        (np.ma.array(M), TypeError, f"matrices {MASKED}"),
        ([[1.0], [1.0, 2.0]], ValueError, NUMBERS_OF_SHAPE + "a ragged sequence: [[1.0], [1.0, 2.0]]"),
    ]
]
REFUSALS += [
    (partial(affine, WIDE, ONE), ValueError, f"images{LARGE}(1, 16777217)"),
    (partial(affine, BYTES[:1], ONE, shape=(2**24 + 1, 1)), ValueError, f"shape{LARGE}(16777217, 1)"),
    (
        partial(affine, BYTES, M, fill=256),
        ValueError,
        "fill must be a number from 0 to 255 for images of uint8, got 256.0",
    ),
    (partial(affine, BYTES, M, out=read_only(BYTES.copy())), ValueError, "out must be writable, got a read-only array"),
]
REFUSALS += [
    (partial(affine, X, M, **options), error, message)
    for options, error, message in [
        ({"shape": 4}, TypeError, "shape must be two ints, height and width, got 4"),
        ({"shape": (4, 0)}, ValueError, "shape[1] must be an int >= 1, got 0"),
        ({"shape": (2**16, 2**16)}, ValueError, f"shape{LARGE}(65536, 65536)"),
        ({"border": "wrap"}, ValueError, "border must be 'constant' or 'edge' or 'reflect', got 'wrap'"),
        ({"fill": np.nan}, ValueError, "fill must be a finite number, got nan"),
        ({"fill": 1e39}, ValueError, "fill must be within the range of float32, got 1e+39"),
        ({"interpolation": "cubic"}, ValueError, "interpolation must be 'bilinear' or 'nearest', got 'cubic'"),
        ({"out": [0.0]}, TypeError, "out must be an array, got 'list'"),
        ({"out": (X, X)}, TypeError, "out must be an array, got 'tuple'"),
        ({"out": BYTES}, TypeError, "out must have dtype float32 like the input, got uint8"),
        ({"out": X.T.copy().T}, ValueError, "out must be C-contiguous and aligned, got strides (4, 8, 32) at 0x..."),
        ({"out": MISALIGNED}, ValueError, "out must be C-contiguous and aligned, got strides (64, 16, 4) at 0x..."),
        ({"out": np.ma.array(X)}, TypeError, f"out {MASKED}"),
        ({"out": X}, ValueError, "out and images overlap in memory"),
        ({"out": X.copy(), "shape": (2, 2)}, ValueError, "out must have shape (2, 2, 2), got (2, 4, 4)"),
        ({"out": read_only(X.copy())}, ValueError, "out must be writable, got a read-only array"),
    ]
]
REFUSALS += [
    (partial(augment, BYTES, **{"seed": 0, "step": 0, **options}), error, message)
    for options, error, message in [
        ({"seed": -1}, ValueError, "seed must be an int from 0 to 2**64 - 1, got -1"),
        ({"step": 0.5}, TypeError, "step must be an int from 0 to 2**53 - 1, got 0.5"),
        ({"rotate": 181}, ValueError, "rotate must be a number of degrees from 0 to 180, got 181"),
        ({"scale": 0.5}, TypeError, "scale must be two numbers, the smallest and the largest, got 0.5"),
        ({"scale": (2, 1)}, ValueError, "scale must have the smallest factor first, got (2, 1)"),
        ({"scale": (0, 1)}, ValueError, "scale[0] must be a finite number > 0, got 0"),
        ({"translate": -0.1}, ValueError, "translate must be a finite number >= 0, got -0.1"),
        ({"flip": 1.5}, ValueError, "flip must be a number in [0, 1], got 1.5"),
        ({"flip_vertical": True}, TypeError, "flip_vertical must be a number in [0, 1], got True"),
        ({"crop": (5, 4)}, ValueError, "crop must be at most (4, 4), the size of the images, got (5, 4)"),
        ({"contrast": -1}, ValueError, "contrast must be a finite number >= 0, got -1"),
        ({"brightness": np.inf}, ValueError, "brightness must be a finite number >= 0, got inf"),
        ({"noise": -1}, ValueError, "noise must be a finite number >= 0, got -1"),
        ({"noise": 1e39}, ValueError, "noise must be within the range of float32, got 1e+39"),
        ({"index": np.ma.array([0, 1])}, TypeError, f"index {MASKED}"),
        (
            {"index": [0.0, 1.0]},
            TypeError,
            "index must be integers, the number of each image, got 'list' of dtype float64",
        ),
        ({"index": [0]}, ValueError, "index must have shape (2,), the number of each image, got (1,)"),
        ({"index": [0, 2**32]}, ValueError, f"index must be in [0, 2**32), got numbers from 0 to {2**32}"),
        (
            {"index": NUMBERS[:2], "out": NUMBERS.view("B")[:8].reshape(2, 2, 2), "crop": (2, 2)},
            ValueError,
            "out and index overlap in memory",
        ),
    ]
]
REFUSALS += [
    (partial(affine, images, M, interpolation="nearest", fill=fill), error, message)
    for images, fill, error, message in [
        (X.astype(complex), 0, TypeError, f"images must have dtype {NEAREST}, got complex128"),
        (X.astype(str), 0, TypeError, f"images must have dtype {NEAREST}, got <U32"),
        (BYTES, 256, ValueError, "fill must be an integer from 0 to 255 for uint8, got 256"),
        (BYTES, 0.5, ValueError, "fill must be an integer from 0 to 255 for uint8, got 0.5"),
        (BYTES.astype(bool), 2, ValueError, "fill must be an integer from 0 to 1 for bool, got 2"),
        (
            BYTES.astype(int),
            2.0**63,
            ValueError,
            "fill must be an integer from ... for int64, got 9.223372036854776e+18",
        ),
        (X, 1e39, ValueError, "fill must be within the range of float32, got 1e+39"),
        (X.astype(np.float16), 1e-9, ValueError, "fill must be within the range of float16, got 1e-09"),
        (X, np.nan, ValueError, "fill must be a finite number, got nan"),
    ]
]
BOTH = X.copy(), BYTES.copy()
REFUSALS += [
    (partial(augment, X, **{"masks": BYTES, "seed": 0, "step": 0, **options}), error, message)
    for options, error, message in [
        ({"masks": BYTES.tolist()}, TypeError, f"masks must be an array of {NEAREST}, got 'list'"),
        ({"masks": np.ma.array(BYTES)}, TypeError, f"masks {MASKED}"),
        ({"masks": BYTES[:1]}, ValueError, "masks must have shape (2, 4, 4) like the images, got (1, 4, 4)"),
        ({"masks": BYTES[:, :2]}, ValueError, "masks must have shape (2, 4, 4) like the images, got (2, 2, 4)"),
        ({"masks": BYTES[0]}, ValueError, f"{IMAGES.replace('images', 'masks')}(4, 4)"),
        ({"mask_fill": -1}, ValueError, "mask_fill must be an integer from 0 to 255 for uint8, got -1"),
        ({"mask_fill": "1"}, TypeError, "mask_fill must be a finite number, got '1'"),
        ({"mask_fill": -1, "out": BOTH}, ValueError, "mask_fill must be an integer from 0 to 255 for uint8, got -1"),
        ({"out": X.copy()}, TypeError, "out must be a tuple of two, for images and masks, got 'ndarray'"),
        ({"out": (None, X)}, TypeError, "out[1] must have dtype uint8 like the input, got float32"),
        ({"out": (None, BYTES)}, ValueError, "out[1] and masks overlap in memory"),
        ({"out": (BYTES, None)}, TypeError, "out[0] must have dtype float32 like the input, got uint8"),
        ({"out": (X, None)}, ValueError, "out[0] and images overlap in memory"),
        ({"out": (BOTH[0], read_only(BYTES.copy()))}, ValueError, "out[1] must be writable, got a read-only array"),
        (
            {"out": (BOTH[0], BOTH[0].view("B")[:, :, :4])},
            ValueError,
            "out[1] must be C-contiguous and aligned, got strides ...",
        ),
        (
            {"out": (BOTH[0], BOTH[0].view("B").ravel()[:32].reshape(BYTES.shape))},
            ValueError,
            "out[1] and out[0] overlap in memory",
        ),
    ]
]
