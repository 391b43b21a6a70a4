"""How long do a loss and its gradient take?"""

from __future__ import annotations

import math

import pytest
from peers import FASTOPT


@pytest.mark.parametrize("candidate", [*FASTOPT, "torch", "optax", "numpy"])
@pytest.mark.parametrize(("rows", "classes"), [(128, 10), (4096, 1000), (512, 50257)])
def test_cross_entropy(measure, rows, classes, candidate):
    row = {"loss": "cross entropy", "rows": rows, "classes": classes}
    measure(candidate, "loss_workloads:CrossEntropy", [rows, classes], row=row, elements=rows * classes)


@pytest.mark.parametrize("candidate", [*FASTOPT, "torch", "torch channels first", "numpy"])
@pytest.mark.parametrize("shape", ["32x128x128x4"])
def test_dice(measure, shape, candidate):
    sizes = [int(size) for size in shape.split("x")]
    row = {"loss": "dice", "rows": math.prod(sizes[:-1]), "classes": sizes[-1]}
    measure(candidate, "loss_workloads:Dice", sizes, row=row, elements=math.prod(sizes))
