"""exp and log are within 2 units in the last place, and exact for special values."""

from __future__ import annotations

import numpy as np
import pytest
from cases import REALS, same_bits

from fastopt import _core

RNG = np.random.default_rng(0)


def ulp(expected, real):
    """Return the spacing of floats around numbers of a higher precision."""
    smallest = float(np.finfo(real).smallest_subnormal)
    _, exponent = np.frexp(expected)
    return np.maximum(np.ldexp(1.0, exponent - np.finfo(real).nmant - 1), smallest)


def run(name, x):
    y = np.empty_like(x)
    _core.run(name, {"x": x, "y": y}, x.size, 4096, x.size)
    return y


@pytest.mark.parametrize("name", ["exp", "log"])
def test_exp_and_log_of_float32_are_within_2_ulp(name):
    """For every 997th float32."""
    x = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        expected = (np.exp if name == "exp" else np.log)(x.astype(np.float64))
        rounded = expected.astype(np.float32)
    got = run(name, x)
    finite = np.isfinite(rounded)
    assert same_bits(got[~finite], rounded[~finite])
    error = np.abs(got[finite].astype(np.float64) - expected[finite]) / ulp(expected[finite], np.float32)
    assert error.max() <= 2, x[finite][error.argmax()]


@pytest.mark.parametrize("name", ["exp", "log"])
def test_exp_and_log_of_float64_are_within_2_ulp(name):
    if np.finfo(np.longdouble).nmant < 60:
        pytest.skip("no dtype is more precise than float64")
    rng = np.random.default_rng(0)
    if name == "exp":
        x = np.concatenate([rng.uniform(-750, 712, 200_000), rng.normal(0, 1, 200_000), [0.0, -0.0, 709.78, -745.13]])
    else:
        x = np.concatenate(
            [
                np.ldexp(rng.uniform(0.5, 1, 200_000), rng.integers(-1073, 1025, 200_000)),
                rng.uniform(0.5, 2, 200_000),
                [5e-324, 2.2e-308, 1.7e308],
            ]
        )
    expected = (np.exp if name == "exp" else np.log)(x.astype(np.longdouble))
    got = run(name, x)
    finite = np.abs(expected) < np.finfo(np.float64).max
    assert np.isinf(got[~finite]).all()
    error = np.abs((got[finite] - expected[finite]).astype(np.float64))
    error /= ulp(expected[finite].astype(np.float64), np.float64)
    assert error.max() <= 2, x[finite][error.argmax()]


@pytest.mark.parametrize("real", REALS, ids=str)
def test_exp_and_log_of_special_values(real):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1.0], real)
    assert same_bits(run("exp", special[:5]), np.array([np.nan, np.inf, 0, 1, 1], real))
    assert same_bits(run("log", special), np.array([np.nan, np.inf, np.nan, -np.inf, -np.inf, np.nan, 0], real))
