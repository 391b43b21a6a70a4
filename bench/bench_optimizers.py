"""How long does a step of Adam take on the shapes of real models, compared with its peers and the memory bound?

And a step of Adagrad, compared with its peers.
"""

from __future__ import annotations

from math import prod

import pytest
from memory_bound import MEMORY_BOUND
from peers import ADAGRADS, FASTOPT, PEERS

from fastopt._bench.models import MODELS


def measure_steps(measure, model, candidate):
    shapes = MODELS[model]
    elements = sum(map(prod, shapes))
    row = {"model": model, "tensors": len(shapes), "parameters": elements}
    measure(candidate, "workloads:Steps", shapes, row=row, elements=elements)


@pytest.mark.parametrize("candidate", [*FASTOPT, "fastopt Flat", *PEERS, *MEMORY_BOUND])
@pytest.mark.parametrize("model", MODELS)
def test_model(measure, model, candidate):
    measure_steps(measure, model, candidate)


@pytest.mark.parametrize("candidate", ADAGRADS)
@pytest.mark.parametrize("model", MODELS)
def test_adagrad(measure, model, candidate):
    measure_steps(measure, model, candidate)
