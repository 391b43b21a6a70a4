"""exp and log: within 2 units in the last place, and right at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from cases import REALS, same_bits

from fastopt import _core

RNG = np.random.default_rng(0)


def unit_in_last_place(wanted, real):
    """The distance of neighbours around numbers that are known better."""
    smallest = float(np.finfo(real).smallest_subnormal)
    _, exponent = np.frexp(wanted)
    return np.maximum(np.ldexp(1.0, exponent - np.finfo(real).nmant - 1), smallest)


def run(name, x):
    y = np.empty_like(x)
    _core.run(name, {"x": x, "y": y}, x.size, 4096, x.size)
    return y


@pytest.mark.parametrize("name", ["exp", "log"])
def test_exp_and_log_of_float32_are_within_2_ulp(name):
    """Every 997th of all numbers."""
    x = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        wanted = (np.exp if name == "exp" else np.log)(x.astype(np.float64))
        rounded = wanted.astype(np.float32)
    got = run(name, x)
    finite = np.isfinite(rounded)
    assert same_bits(got[~finite], rounded[~finite])
    off = np.abs(got[finite].astype(np.float64) - wanted[finite]) / unit_in_last_place(wanted[finite], np.float32)
    assert off.max() <= 2, x[finite][off.argmax()]


@pytest.mark.parametrize("name", ["exp", "log"])
def test_exp_and_log_of_float64_are_within_2_ulp(name):
    if np.finfo(np.longdouble).nmant < 60:
        pytest.skip("nothing here is more exact than float64")
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
    wanted = (np.exp if name == "exp" else np.log)(x.astype(np.longdouble))
    got = run(name, x)
    finite = np.abs(wanted) < np.finfo(np.float64).max
    assert np.isinf(got[~finite]).all()
    off = np.abs((got[finite] - wanted[finite]).astype(np.float64))
    off /= unit_in_last_place(wanted[finite].astype(np.float64), np.float64)
    assert off.max() <= 2, x[finite][off.argmax()]


@pytest.mark.parametrize("real", REALS, ids=str)
def test_exp_and_log_at_their_edges(real):
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1.0], real)
    assert same_bits(run("exp", edges[:5]), np.array([np.nan, np.inf, 0, 1, 1], real))
    assert same_bits(run("log", edges), np.array([np.nan, np.inf, np.nan, -np.inf, -np.inf, np.nan, 0], real))
