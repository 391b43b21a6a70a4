"""Does the optimizer slow down the rest of a training loop written in NumPy?

An iteration is the three matrix products of a layer with n weights and batch 64, then a step of Adam. All loops
use NumPy's matrix products; BLAS has its default number of threads, or one.
"""

from __future__ import annotations

import pytest
from peers import FASTOPT, PEERS

BLAS = {
    "default": {},
    "1": dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"),
}


@pytest.mark.parametrize("candidate", [*FASTOPT, "fastopt 2 threads", "fastopt OpenMP", *PEERS])
@pytest.mark.parametrize("blas", BLAS)
@pytest.mark.parametrize("exponent", [14, 16, 18, 20, 21, 22, 23, 24])
def test_iteration(measure, exponent, blas, candidate):
    row = {"n": f"2^{exponent}", "BLAS threads": blas}
    measure(candidate, "workloads:Loop", exponent, row=row, elements=2**exponent, environment=BLAS[blas])
