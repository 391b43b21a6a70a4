"""How long do the first ten steps of a new optimizer in a new process take?

The time of a round is the median of the first ten steps, without any warm-up. Each round starts a new process.
"""

from __future__ import annotations

from math import prod

import pytest
from peers import FASTOPT

from fastopt._bench.interleave import FIRST_STEPS
from fastopt._bench.models import MODELS


@pytest.mark.parametrize(
    "candidate", [*FASTOPT, "fastopt 2 threads", "torch fused", "torch default", "DeepSpeed", "optax", "numba"]
)
@pytest.mark.parametrize("model", MODELS)
def test_first_ten_steps(measure, model, candidate):
    shapes = MODELS[model]
    elements = sum(map(prod, shapes))
    row = {"model": model, "tensors": len(shapes), "parameters": elements}
    measure(candidate, "workloads:Steps", shapes, row=row, elements=elements, protocol=FIRST_STEPS)
