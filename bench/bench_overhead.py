"""How long does a small step take, with one tensor and with a hundred?"""

from __future__ import annotations

import pytest
from peers import FASTOPT, PEERS

CANDIDATES = [*FASTOPT, "fastopt Flat", "fastopt kernels", *PEERS, "fastopt SGD", "torch SGD"]


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("tensors", [1, 100])
@pytest.mark.parametrize("parameters", [64, 256, 1_000, 10_000])
def test_step(measure, parameters, tensors, candidate):
    row = {"tensors": tensors, "parameters each": parameters}
    measure(candidate, "workloads:Steps", [(parameters,)] * tensors, row=row, elements=parameters * tensors)
