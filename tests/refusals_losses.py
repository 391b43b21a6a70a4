"""Refused arguments of losses."""

from __future__ import annotations

from functools import partial

import numpy as np
from cases import read_only
from refusals_params import ON_GPU, OnGpu

from fastopt.losses import binary_cross_entropy, cross_entropy, dice, focal, huber, log_cosh, mae, mse

X, Y, LABELS = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32), np.zeros(4, int)
BUFFER = np.zeros(24, np.float32)
FIXED = read_only(X.copy())
HUGE = np.array([2**64 - 100, 0, 0, 0], np.uint64)
MASK = np.array([[[0, 255], [1, 0]]])  # an image of 2 x 2 pixels, of which one is void
ONE_CLASS = np.zeros((1, 2, 2, 1), np.float32)
BAD = Y.copy()
BAD[1, 2] = 255
BEYOND_FLOAT64 = np.float128("1e4000") if hasattr(np, "float128") else 1e39  # some systems have no wider type
NAN = np.where(BAD == 255, np.nan, Y)
OUT = np.zeros((4, 3), np.float32)
OUTSIDE = "target must be in [0, 1], got 255.0 at index (1, 2)"
TARGET = "target must be integer labels or probabilities, got "
LABELS_OR_ROWS = "target must be integer labels (target.astype(int)), or probabilities with shape (4, 3), got "
SHAPES = "target must have shape (4,), a label for each row of {}, or (4, 3), probabilities, got "
MASKED = "must be an array without a mask, got a masked array"
RANGE = "within the range of float32"

REFUSALS = [
    (lambda: mse(OnGpu(), Y), TypeError, "x " + ON_GPU.replace("...", "'OnGpu'")),
    (lambda: mse(X, OnGpu()), TypeError, "target " + ON_GPU.replace("...", "'OnGpu'")),
    (lambda: mse([1.0], Y), TypeError, "x must be an array of float32 or float64, got 'list'"),
    (lambda: mse(X.astype(int), Y), TypeError, "x must have dtype float32 or float64, got int64"),
    (
        lambda: mse(X.byteswap().view(">f4"), Y),
        TypeError,
        "x must have dtype float32 or float64, got >f4 (byte-swapped)",
    ),
    *[
        (
            lambda y=y: mse(X, y),
            ValueError,
            f"target must have shape (4, 3) like x, without broadcasting, got {y.shape}",
        )
        for y in (Y[:3], Y[0], Y[..., None], Y.T)
    ],
    (
        lambda: mae(X[:, 0], Y[:, :1]),
        ValueError,
        "target must have shape (4,) like x, without broadcasting, got (4, 1)",
    ),
    *[
        (lambda y=y: log_cosh(X, y), TypeError, f"target must be real numbers or booleans, got {got}")
        for y, got in [(Y * 1j, "'ndarray' of dtype complex64"), (None, "'NoneType' of dtype object")]
    ],
    (lambda: mae(X, np.ma.array(Y)), TypeError, f"target {MASKED}"),
    (
        lambda: huber(X, np.where(BAD == 255, -1e39, np.inf)),
        ValueError,
        f"target must be {RANGE}, got -1e+39 at index (1, 2)",
    ),
    *[
        (partial(loss, X, BAD, **options), ValueError, OUTSIDE)
        for loss in (binary_cross_entropy, focal, cross_entropy, dice)
        for options in ({}, {"out": OUT}, {"out": X}, {"reduction": "none"})
    ],
    (lambda: binary_cross_entropy(X[0], BAD[1]), ValueError, "target must be in [0, 1], got 255.0 at index 2"),
    (lambda: focal(X, NAN, out=X), ValueError, "target must be in [0, 1], got nan at index (1, 2)"),
    (lambda: binary_cross_entropy(X, -Y.astype(int)), ValueError, "target must be in [0, 1], got -1.0 at index (0, 0)"),
    (lambda: mse(X, Y, reduction="average"), ValueError, "reduction must be 'mean' or 'sum' or 'none', got 'average'"),
    (lambda: mse(X, Y, out=Y), ValueError, "out and target overlap in memory"),
    (lambda: mse(BUFFER[:12], np.ones(12, "f"), out=BUFFER[1:13]), ValueError, "out and x overlap in memory"),
    (lambda: mse(X, Y, out=np.zeros((4, 3))), TypeError, "out must have dtype float32 like x, got float64"),
    (
        lambda: mse(X.T, Y.T, out=OUT.T),
        ValueError,
        "out must be C-contiguous, got shape (3, 4) with strides (4, 12) bytes",
    ),
    (lambda: mse(X, Y, out=FIXED), ValueError, "out must be writable, got a read-only array"),
    (lambda: huber(X, Y, 0.0), ValueError, "delta must be a finite number > 0, got 0.0"),
    (lambda: huber(X, Y, 1e-50), ValueError, f"delta must be {RANGE}, got 1e-50"),
    (
        lambda: binary_cross_entropy(X, Y, pos_weight=-1),
        ValueError,
        f"pos_weight must be numbers >= 0 {RANGE}, got -1",
    ),
    (
        lambda: binary_cross_entropy(X, Y, pos_weight=1e39),
        ValueError,
        f"pos_weight must be numbers >= 0 {RANGE}, got 1e+39",
    ),
    (
        lambda: binary_cross_entropy(X, Y, pos_weight=np.ones(4)),
        ValueError,
        "pos_weight must have shape (3,), got (4,)",
    ),
    (
        lambda: binary_cross_entropy(X, Y, pos_weight="x"),
        TypeError,
        "pos_weight must be numbers >= 0, got 'str' of dtype <U1",
    ),
    (lambda: focal(X, Y, gamma=-1.0), ValueError, "gamma must be a finite number >= 0, got -1.0"),
    (lambda: focal(X, Y, gamma=1e39), ValueError, f"gamma must be {RANGE}, got 1e+39"),
    (lambda: focal(X, Y, alpha=1.5), ValueError, "alpha must be a number in [0, 1], got 1.5"),
    (lambda: dice(X[0], LABELS[0]), ValueError, "x must have shape (N, ..., C) with at least one class, got (3,)"),
    (lambda: dice(X, LABELS[:2]), ValueError, SHAPES.format("x") + "(2,)"),
    (lambda: dice(X, LABELS + 3), IndexError, "target must have labels in [0, 3), got 3 in row 0"),
    (
        lambda: dice(X, Y, from_logits="tanh"),
        ValueError,
        "from_logits must be None or 'softmax' or 'sigmoid', got 'tanh'",
    ),
    (
        lambda: dice(ONE_CLASS, MASK == 1),
        ValueError,
        "from_logits must be 'sigmoid' or None with one class, got 'softmax'",
    ),
    *[
        (
            lambda m=m: dice(ONE_CLASS, m, from_logits=None),
            IndexError,
            f"target must have labels in [0, 2), got 255 in row {i}",
        )
        for m, i in [(MASK, (0, 0, 1)), (MASK[..., None], (0, 0, 1))]
    ],
    (
        lambda: dice(ONE_CLASS, MASK.astype(float), from_logits=None, ignore_index=255),
        ValueError,
        "target must be in [0, 1], got 255.0 at index (0, 0, 1, 0)",
    ),
    (lambda: dice(X, BAD.astype(int), ignore_index=255), ValueError, OUTSIDE),
    (lambda: dice(X, LABELS, ignore_index=None), TypeError, "ignore_index must be an int from ..., got None"),
    (lambda: dice(X, Y, smooth=-1.0), ValueError, "smooth must be a finite number >= 0, got -1.0"),
    (lambda: dice(X, Y, squared=2), ValueError, "squared must be True or False, got 2"),
    (lambda: dice(X, Y, per_image="no"), ValueError, "per_image must be True or False, got 'no'"),
    (lambda: dice(X, Y, out=Y), ValueError, "out and target overlap in memory"),
    (lambda: cross_entropy(X[0, 0], 0), TypeError, "logits must be an array of float32 or float64, got 'float32'"),
    (
        lambda: cross_entropy(np.zeros((3, 0)), LABELS[:3]),
        ValueError,
        "logits must have shape (..., C) with at least one class, got (3, 0)",
    ),
    (
        lambda: cross_entropy(X, LABELS[:3]),
        ValueError,
        SHAPES.format("logits") + "(3,)",
    ),
    (
        lambda: cross_entropy(X, np.array([0, 2, 3, -1])),
        IndexError,
        "target must have labels in [0, 3), got 3 in row 2",
    ),
    (
        lambda: cross_entropy(X[None], np.array([[0, 2, -1, 1]])),
        IndexError,
        "target must have labels in [0, 3), got -1 in row (0, 2)",
    ),
    (lambda: cross_entropy(X[0], 3), IndexError, "target must have labels in [0, 3), got 3 in row ()"),
    (lambda: cross_entropy(X, HUGE), IndexError, f"target must have labels in [0, 3), got {HUGE[0]} in row 0"),
    (
        lambda: cross_entropy(X, HUGE, ignore_index=2**63 - 1),
        IndexError,
        f"target must have labels in [0, 3), got {HUGE[0]} in row 0",
    ),
    (lambda: cross_entropy(X, ["a"] * 4), TypeError, TARGET + "'list' of dtype <U1"),
    (lambda: cross_entropy(X, [0, [1], 2, 0]), ValueError, TARGET + "a ragged sequence: [0, [1], 2, 0]"),
    (lambda: cross_entropy(X, np.ma.array(LABELS)), TypeError, f"target {MASKED}"),
    *[
        (lambda y=y: cross_entropy(X, y), TypeError, LABELS_OR_ROWS + f"{y.dtype} with shape (4,)")
        for y in (LABELS.astype(float), Y[:, 0], LABELS == 0)
    ],
    (lambda: cross_entropy(X, Y[:, :2].copy()), ValueError, SHAPES.format("logits") + "(4, 2)"),
    *[
        (lambda weight=weight: cross_entropy(X, LABELS, weight=weight), error, f"weight {message}")
        for weight, error, message in [
            (np.ones(2), ValueError, "must have shape (3,), got (2,)"),
            ([1, 2, np.nan], ValueError, f"must be numbers >= 0 {RANGE}, got [1, 2, nan]"),
            ([1e39, 1, 1], ValueError, f"must be numbers >= 0 {RANGE}, got [1e+39, 1, 1]"),
            (BEYOND_FLOAT64, ValueError, f"must be numbers >= 0 {RANGE}, got ..."),
            ([1, [2], 3], ValueError, "must be numbers >= 0, got a ragged sequence: [1, [2], 3]"),
            (np.ma.ones(3), TypeError, MASKED),
        ]
    ],
    (
        lambda: cross_entropy(X, LABELS, weight=[1e-40] * 3),
        ValueError,
        f"1 / the sum of the weights of all labels must be {RANGE}, got ...",
    ),
    (
        lambda: cross_entropy(X.astype(float), LABELS, weight=[1e308] * 3),
        ValueError,
        "the sum of the weights of all labels must be within the range of float64, got inf",
    ),
    (
        lambda: cross_entropy(X, LABELS, label_smoothing=1.1),
        ValueError,
        "label_smoothing must be a number in [0, 1], got 1.1",
    ),
    *[
        (lambda index=index: cross_entropy(X, LABELS, ignore_index=index), error, f"ignore_index must be {expected}")
        for index, error, expected in [
            (2**63, ValueError, f"an int < 2**63, got {2**63}"),
            (-(2**63) - 1, ValueError, f"an int from -2**63 to 2**63 - 1, got {-(2**63) - 1}"),
            (0.5, TypeError, "an int from -2**63 to 2**63 - 1, got 0.5"),
        ]
    ],
]
