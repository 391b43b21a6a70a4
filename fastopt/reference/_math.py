"""exp and log in operations that every platform rounds alike.

The constants are explained in ``csrc/math/exp_log.h``.
"""

from __future__ import annotations

import math

import numpy as np

from fastopt.reference._common import Array

# Keys are item sizes: 4 for float32, 8 for float64. Log(2) is split in two; the high part has so few bits that its
# multiples are exact.
EXP_LN2 = {4: ("0x1.63p-1", "-0x1.bd0106p-13"), 8: ("0x1.62e42feep-1", "0x1.a39ef35793c76p-33")}
LOG_LN2 = {4: ("0x1.62e3p-1", "0x1.2fefa2p-17"), 8: ("0x1.62e42feep-1", "0x1.a39ef35793c76p-33")}
LOG_COEFFICIENTS = {
    4: ("0x0.aaaaaap0", "0x0.ccce13p-1", "0x0.91e9eep-1", "0x0.f89e26p-2"),
    8: (
        "0x1.5555555555593p-1",
        "0x1.999999997fa04p-2",
        "0x1.2492494229359p-2",
        "0x1.c71c51d8e78afp-3",
        "0x1.7466496cb03dep-3",
        "0x1.39a09d078c69fp-3",
        "0x1.2f112df3e5244p-3",
    ),
}


def exp(x: Array) -> Array:
    """Return exp(x) = 2^n exp(r), where x = n log(2) + r.

    >>> float(exp(np.array(0.0)))
    1.0
    """
    low, high = (-104.0, 89.0) if x.itemsize == 4 else (-746.0, 710.0)
    n, r = _reduce_range(np.clip(x, x.dtype.type(low), x.dtype.type(high)))
    half = np.rint(n * x.dtype.type(0.5))
    return (1 + _expm1_near_zero(r)) * _exp2(half) * _exp2(n - half)


def expm1(x: Array) -> Array:
    """Return exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), for x <= 0.

    >>> float(expm1(np.array(-1e-9)))
    -9.999999995e-10
    """
    n, r = _reduce_range(np.maximum(x, x.dtype.type(-40.0 if x.itemsize == 4 else -80.0)))
    power = _exp2(n)
    return power * _expm1_near_zero(r) + (power - 1)


def log(x: Array) -> Array:
    """Return log(x) = k log(2) + log(1 + f), where x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)].

    >>> float(log(np.array(10.0)))
    2.302585092994046
    """
    real, tiny = x.dtype.type, np.finfo(x.dtype).tiny
    shift = 25 if x.itemsize == 4 else 54  # makes denormal numbers normal
    fraction, exponent = np.frexp(np.where(x < tiny, x * real(2.0**shift), x))
    below = fraction < real(math.sqrt(0.5))
    k = (exponent - below - np.where(x < tiny, shift, 0)).astype(x.dtype)
    f = np.where(below, 2 * fraction, fraction) - 1
    s = f / (2 + f)
    z, half_square = s * s, real(0.5) * f * f
    *others, r = (real(float.fromhex(c)) for c in LOG_COEFFICIENTS[x.itemsize])
    for c in reversed(others):
        r = r * z + c
    ln2_high, ln2_low = (real(float.fromhex(text)) for text in LOG_LN2[x.itemsize])
    result = (s * (half_square + r * z) + k * ln2_low - half_square) + f + k * ln2_high
    at_edges = np.where(x == 0, real(-np.inf), np.where(x < 0, real(np.nan), x))
    return np.where((x > 0) & (x < np.inf), result, at_edges)


def log1p(x: Array) -> Array:
    """Return log(1 + x) for x > -1: the log of the rounded sum, corrected by the rounding error.

    >>> float(log1p(np.array(1e-20)))
    1e-20
    """
    total = 1 + x
    return log(total) - ((total - 1) - x) / total


def _reduce_range(x: Array) -> tuple[Array, Array]:
    """Return n and r with x = n log(2) + r, where n is the nearest integer."""
    real = x.dtype.type
    ln2_high, ln2_low = (real(float.fromhex(text)) for text in EXP_LN2[x.itemsize])
    n = np.rint(x * real(1 / math.log(2)))
    return n, (x - n * ln2_high) - n * ln2_low


def _expm1_near_zero(r: Array) -> Array:
    """Return exp(r) - 1 by the Taylor series, in float32 up to 1/7!, in float64 up to 1/13!."""
    real = r.dtype.type
    terms = [real(1 / math.factorial(k)) for k in range(2, 8 if r.itemsize == 4 else 14)]
    q = terms.pop()
    for term in reversed(terms):
        q = q * r + term
    return r + r * r * q


def _exp2(n: Array) -> Array:
    """Return 2^n for whole n."""
    return np.ldexp(n.dtype.type(1), np.nan_to_num(n).astype(np.int32))
