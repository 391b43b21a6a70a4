"""How long do layers take, forward and backward together?"""

from __future__ import annotations

import math

import pytest


@pytest.mark.parametrize("size", [2**14, 2**20, 2**24])
def test_dropout(compare, size):
    compare(
        {"layer": "dropout", "shape": f"{size:,}"}, "layer_jobs.Dropout", [size], ["fastopt", "torch", "numpy"], size
    )


@pytest.mark.parametrize("shape", [(256, 512), (32, 32, 32, 64), (64, 56, 56, 64)])
def test_batch_norm(compare, shape):
    names = ["fastopt", "torch", "torch channels first", "numpy"] if len(shape) > 2 else ["fastopt", "torch", "numpy"]
    row = {"layer": "batch norm", "shape": " x ".join(map(str, shape))}
    compare(row, "layer_jobs.BatchNorm", list(shape), names, math.prod(shape))
