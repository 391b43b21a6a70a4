"""How long does it take to rotate, scale, shift and flip the images of a batch?"""

from __future__ import annotations

import math

import pytest
from peers import FASTOPT


@pytest.mark.parametrize("candidate", [*FASTOPT, "opencv", "torch", "scipy"])
@pytest.mark.parametrize(
    ("dtype", "shape"), [("float32", "256x64x64"), ("uint8", "256x64x64x3"), ("float32", "4096x28x28")]
)
def test_resampling(measure, dtype, shape, candidate):
    sizes = [int(size) for size in shape.split("x")]
    row = {"images": shape, "type": dtype}
    measure(candidate, "image_workloads:Resampling", dtype, sizes, row=row, elements=math.prod(sizes))


@pytest.mark.parametrize("candidate", [*FASTOPT, "opencv", "scipy"])
def test_resampling_masks(measure, candidate):
    row = {"images": "256x64x64", "type": "uint8 masks"}
    measure(candidate, "image_workloads:MaskResampling", "uint8", [256, 64, 64], row=row, elements=2**20)
