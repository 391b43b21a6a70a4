"""How long do dropout and batch norm take, forward and backward together?"""

from __future__ import annotations

import math

import pytest
from peers import FASTOPT


@pytest.mark.parametrize("candidate", [*FASTOPT, "torch", "numpy"])
@pytest.mark.parametrize("size", [2**14, 2**20, 2**24])
def test_dropout(measure, size, candidate):
    measure(candidate, "layer_workloads:Dropout", size, row={"layer": "dropout", "shape": f"{size:,}"}, elements=size)


@pytest.mark.parametrize("candidate", [*FASTOPT, "torch", "torch channels first", "numpy"])
@pytest.mark.parametrize("shape", ["256x512", "32x32x32x64", "64x56x56x64"])
def test_batch_norm(measure, shape, candidate):
    sizes = [int(size) for size in shape.split("x")]
    row = {"layer": "batch norm", "shape": shape}
    measure(candidate, "layer_workloads:BatchNorm", sizes, row=row, elements=math.prod(sizes))
