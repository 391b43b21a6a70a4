"""How does the time for a parameter grow with their number, on one thread and on two?"""

from __future__ import annotations

import pytest
from turns import available_memory
from wall import WALLS

OTHERS = ["fastopt 1", "fastopt 2", *WALLS, "torch fused", "DeepSpeed", "optax", "numba", "NumPy out="]


@pytest.mark.parametrize("exponent", range(4, 9))
def test_parameters(compare, exponent):
    size = 10**exponent
    compare({"parameters": size}, "jobs.Steps", [[(size,)]], ["fastopt", *OTHERS], size)


def test_a_billion(compare):
    """Against a hundred steps of ten million, which are as many parameters."""
    if available_memory() < 17e9:
        pytest.skip("there is no room for 16 GB")
    compare({"parameters": 10**9}, "jobs.Billion", [], ["10^9", "100 x 10^7"], 1)
