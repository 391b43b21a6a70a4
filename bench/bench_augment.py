"""How long does it take to turn, scale, shift and flip the images of a batch?"""

from __future__ import annotations

import math

import pytest


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float32", (256, 64, 64)), ("uint8", (256, 64, 64, 3)), ("float32", (4096, 28, 28))]
)
def test_resampling(compare, dtype, shape):
    row = {"images": " x ".join(map(str, shape)), "type": dtype}
    names = ["fastopt", "opencv", "torch", "torchvision", "scipy"]
    compare(row, "image_jobs.Resampling", [dtype, shape], names, math.prod(shape))
