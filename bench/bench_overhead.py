"""What does a small step cost, in one tensor and in a hundred?"""

from __future__ import annotations

import pytest
from peers import PEERS, SGD_PEERS


@pytest.mark.parametrize("tensors", [1, 100])
@pytest.mark.parametrize("parameters", [64, 256, 1_000, 10_000])
def test_step(compare, parameters, tensors):
    candidates = ["fastopt Flat", "fastopt", "fastopt bare", *PEERS, "fastopt SGD", *SGD_PEERS]
    shapes = [(parameters,)] * tensors
    row = {"tensors": tensors, "parameters each": parameters}
    compare(row, "jobs.Steps", [shapes], candidates, parameters * tensors)
