"""Does a training loop in NumPy run slower for what steps in it?

An iteration is the three matrix products of a layer with n weights, batch 64, and a step of Adam over these. The
products are NumPy's in all loops; BLAS has its default threads, or one.
"""

from __future__ import annotations

import pytest
from peers import PEERS

BLAS = {
    "default": {},
    "1": dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"),
}


@pytest.mark.parametrize("blas", BLAS)
@pytest.mark.parametrize("exponent", [14, 16, 18, 20, 21, 22, 23, 24])
def test_iteration(compare, exponent, blas):
    candidates = ["fastopt", "fastopt 1", "fastopt 2", *PEERS]
    compare({"n": f"2^{exponent}", "BLAS threads": blas}, "jobs.Loop", [exponent], candidates, 2**exponent, BLAS[blas])
