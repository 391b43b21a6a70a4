"""How much faster is a step than the same formula in NumPy?

Every row of ``tests/cases.py`` against ``fastopt.reference``, in float32, from 10^3 to 10^7 parameters, with the
default threads. Both give the same bits, which is checked before anything is timed.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, Reference, same_bits

SIZES = [10**exponent for exponent in range(3, 8)]


def ordinary_numbers(size, seed):
    return np.random.default_rng(seed).normal(0, 1, size).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_step(compare, case, size):
    param, grad = ordinary_numbers(size, 0), ordinary_numbers(size, 1)
    reference = Reference(case, [param])
    optimizer = case.make(param)
    for _ in range(2):
        optimizer.step(grad.copy())
        reference.step([grad.copy()])
    assert same_bits(param, reference.tensors[0]["param"])

    rounds = min(300, max(9, 2 * 10**7 // size))
    compare((case, size), rounds, lambda: optimizer.step(grad), {"NumPy": lambda: reference.step([grad])})
