"""How does the time per parameter depend on the number of parameters, up to a billion?"""

from __future__ import annotations

import pytest
from memory_bound import MEMORY_BOUND
from peers import FASTOPT

from fastopt._bench.interleave import available_memory

PEERS = ["torch fused", "DeepSpeed", "optax", "numba", "NumPy out="]


@pytest.mark.parametrize("candidate", [*FASTOPT, "fastopt 2 threads", *MEMORY_BOUND, *PEERS])
@pytest.mark.parametrize("exponent", range(4, 9))
def test_parameters(measure, exponent, candidate):
    measure(candidate, "workloads:Steps", [(10**exponent,)], row={"parameters": 10**exponent}, elements=10**exponent)


@pytest.mark.parametrize("candidate", ["10^9", "100 x 10^7"])
def test_a_billion(measure, candidate):
    """One step of a billion parameters takes as long as a hundred steps of ten million."""
    if available_memory() < 17e9:
        pytest.skip("needs 17 GB of memory")
    measure(candidate, "workloads:Billion", row={"parameters": 10**9}, elements=10**9)
