"""How much faster is a step than the same formula in NumPy?

Every row of ``tests/cases.py`` against ``fastopt.reference``, in float32, from 10^3 to 10^7 parameters, with the
default threads. Both give the same bits, which is checked before anything is timed. Adam is also compared with NumPy
as an expert would write it, which is quicker than the reference and harder to read.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, Reference, same_bits

import fastopt

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


class ScratchAdam:
    """Adam as an expert would write it in NumPy: every result goes into memory that is there already."""

    def __init__(self, param):
        self.param, self.steps = param, 0
        self.exp_avg, self.exp_avg_sq = np.zeros_like(param), np.zeros_like(param)
        self.scratch, self.update = np.empty_like(param), np.empty_like(param)

    def step(self, grad, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        self.steps += 1
        m, v, scratch, update, real = self.exp_avg, self.exp_avg_sq, self.scratch, self.update, self.param.dtype.type
        np.multiply(m, real(beta1), out=m)
        np.multiply(grad, real(1 - beta1), out=scratch)
        np.add(m, scratch, out=m)
        np.multiply(v, real(beta2), out=v)
        np.multiply(grad, grad, out=scratch)
        np.multiply(scratch, real(1 - beta2), out=scratch)
        np.add(v, scratch, out=v)
        np.sqrt(v, out=scratch)
        np.multiply(scratch, real((1 - beta2**self.steps) ** -0.5), out=scratch)
        np.add(scratch, real(eps), out=scratch)
        np.multiply(m, real(lr / (1 - beta1**self.steps)), out=update)
        np.divide(update, scratch, out=update)
        np.subtract(self.param, update, out=self.param)


@pytest.mark.parametrize("size", SIZES)
def test_adam_against_numpy_with_scratch_memory(compare, size):
    param, grad = ordinary_numbers(size, 0), ordinary_numbers(size, 1)
    expert = ScratchAdam(param.copy())
    optimizer = fastopt.Adam(param)
    for _ in range(2):
        optimizer.step(grad)
        expert.step(grad)
    np.testing.assert_allclose(expert.param, param, rtol=1e-5, atol=1e-7)

    rounds = min(300, max(9, 2 * 10**7 // size))
    compare(("Adam", size), rounds, lambda: optimizer.step(grad), {"NumPy out=": lambda: expert.step(grad)})
