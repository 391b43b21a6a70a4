"""exp and log in operations that every platform rounds alike; the constants are explained in ``csrc/exp_log.h``."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

LANES = 16
RUN = 16  # numbers that are added up in their own type, and what they give in double
# By the bytes of a real: log(2) in two parts, the first with so few bits that its multiples are exact, and what the
# last series begins with.
EXP_PARTS = {4: ("0x1.63p-1", "-0x1.bd0106p-13"), 8: ("0x1.62e42feep-1", "0x1.a39ef35793c76p-33")}
LOG_PARTS = {4: ("0x1.62e3p-1", "0x1.2fefa2p-17"), 8: ("0x1.62e42feep-1", "0x1.a39ef35793c76p-33")}
SERIES = {
    4: [0xAAAAAA / 2**24, 0xCCCE13 / 2**25, 0x91E9EE / 2**25, 0xF89E26 / 2**26],
    8: [
        float.fromhex(text)
        for text in (
            "0x1.5555555555593p-1",
            "0x1.999999997fa04p-2",
            "0x1.2492494229359p-2",
            "0x1.c71c51d8e78afp-3",
            "0x1.7466496cb03dep-3",
            "0x1.39a09d078c69fp-3",
            "0x1.2f112df3e5244p-3",
        )
    ],
}


def exponential(x: Array) -> Array:
    """Give exp(x) = 2^n exp(r), where x = n log(2) + r.

    >>> float(exponential(np.array(0.0)))
    1.0
    """
    least, most = (-104.0, 89.0) if x.itemsize == 4 else (-746.0, 710.0)
    n, r = _reduce(np.clip(x, x.dtype.type(least), x.dtype.type(most)))
    half = np.rint(n * x.dtype.type(0.5))
    result: Array = (1 + _minus_one_near_zero(r)) * _power_of_two(half) * _power_of_two(n - half)
    return result


def exponential_minus_one(x: Array) -> Array:
    """Give exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), for x <= 0.

    >>> float(exponential_minus_one(np.array(-1e-9)))
    -9.999999995e-10
    """
    n, r = _reduce(np.maximum(x, x.dtype.type(-40.0 if x.itemsize == 4 else -80.0)))
    power = _power_of_two(n)
    result: Array = power * _minus_one_near_zero(r) + (power - 1)
    return result


def logarithm(x: Array) -> Array:
    """Give log(x) = k log(2) + log(1 + f), where x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)].

    >>> float(logarithm(np.array(10.0)))
    2.302585092994046
    """
    real, tiny = x.dtype.type, np.finfo(x.dtype).tiny
    scale = 2.0 ** (25 if x.itemsize == 4 else 54)
    fraction, exponent = np.frexp(np.where(x < tiny, x * real(scale), x))
    low = fraction < real(math.sqrt(0.5))
    k = (exponent - low - np.where(x < tiny, 25 if x.itemsize == 4 else 54, 0)).astype(x.dtype)
    f = np.where(low, 2 * fraction, fraction) - 1
    s = f / (2 + f)
    z, half_square = s * s, real(0.5) * f * f
    *others, r = (real(c) for c in SERIES[x.itemsize])
    for c in reversed(others):
        r = r * z + c
    high, low_part = (real(float.fromhex(text)) for text in LOG_PARTS[x.itemsize])
    result = (s * (half_square + r * z) + k * low_part - half_square) + f + k * high
    at_edges = np.where(x == 0, real(-np.inf), np.where(x < 0, real(np.nan), x))
    return np.where((x > 0) & (x < np.inf), result, at_edges)


def logarithm_of_one_plus(x: Array) -> Array:
    """Give log(1 + x), x > -1: the logarithm of the rounded sum, and what the rounding lost.

    >>> float(logarithm_of_one_plus(np.array(1e-20)))
    1e-20
    """
    total = 1 + x
    result: Array = logarithm(total) - ((total - 1) - x) / total
    return result


def sum_in_lanes(x: Array, run: int = 1) -> Array:
    """Sum along the last axis: element i goes to lane i % 16, and the lanes are folded by halves.

    ``run`` numbers of a lane are added up in their own type, what they give in float64.

    >>> sum_in_lanes(np.ones((2, 100), np.float32))
    array([100., 100.])
    """
    of_run, runs = LANES * run, -(-x.shape[-1] // (LANES * run))
    padded = np.zeros((*x.shape[:-1], runs * of_run), x.dtype)
    padded[..., : x.shape[-1]] = x
    padded = padded.reshape(*x.shape[:-1], runs, run, LANES)
    lanes: Array = np.zeros((*x.shape[:-1], LANES))
    for i in range(runs):
        total = np.zeros_like(padded[..., 0, 0, :])
        for j in range(run):
            total += padded[..., i, j, :]
        lanes = lanes + total
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def _reduce(x: Array) -> tuple[Array, Array]:
    real = x.dtype.type
    high, low = (real(float.fromhex(text)) for text in EXP_PARTS[x.itemsize])
    n = np.rint(x * real(1 / math.log(2)))
    return n, (x - n * high) - n * low


def _minus_one_near_zero(r: Array) -> Array:
    """Give exp(r) - 1 by the Taylor series, in float32 as far as 1/7!, in float64 as far as 1/13!."""
    real = r.dtype.type
    terms = [real(1 / math.factorial(k)) for k in range(2, 8 if r.itemsize == 4 else 14)]
    q = terms.pop()
    for term in reversed(terms):
        q = q * r + term
    result: Array = r + r * r * q
    return result


def _power_of_two(n: Array) -> Array:
    power: Array = np.ldexp(n.dtype.type(1), np.nan_to_num(n).astype(np.int32))
    return power
