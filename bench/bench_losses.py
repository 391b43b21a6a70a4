"""How long do a loss and its gradient take, forward and backward together?"""

from __future__ import annotations

import math

import pytest


@pytest.mark.parametrize(("rows", "classes"), [(128, 10), (4096, 1000), (512, 50257)])
def test_cross_entropy(compare, rows, classes):
    row = {"loss": "cross entropy", "rows": rows, "classes": classes}
    names = ["fastopt", "torch", "optax", "numpy"]
    compare(row, "loss_jobs.CrossEntropy", [rows, classes], names, rows * classes)


@pytest.mark.parametrize("shape", [(32, 128, 128, 4)])
def test_dice(compare, shape):
    row = {"loss": "dice", "rows": math.prod(shape[:-1]), "classes": shape[-1]}
    compare(row, "loss_jobs.Dice", list(shape), ["fastopt", "torch", "torch channels first", "numpy"], math.prod(shape))
