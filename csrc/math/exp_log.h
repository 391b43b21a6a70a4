/* exp and log, within 2 units in the last place, and the sigmoid. Those of libm differ between platforms.
 *
 * Integers are kept in the lowest bits of a real to which MAGIC was added: there is no conversion, so the loops
 * vectorize on every instruction set. */
#ifndef FASTOPT_EXP_LOG_H
#define FASTOPT_EXP_LOG_H

#include "basic.h"

#define BITS_float uint32_t
#define BITS_double uint64_t
#define BITS PASTE(BITS, real)
#define MANTISSA_BITS PICK(23, 52)
#define MAGIC PICK(0x1.8p23f, 0x1.8p52)
#define REAL_INFINITY PICK(__builtin_inff(), __builtin_inf())

#define TEMPLATE "math/exp_log.h"
#include "../for_each_real.h"

#elif defined(real)

INLINE BITS NAME(to_bits)(real x) {
    BITS bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE real NAME(from_bits)(BITS bits) {
    real x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE real NAME(rint)(real x) { return (x + MAGIC) - MAGIC; }

/* Return 2^n for an integer n, if that is a normal number. */
INLINE real NAME(exp2i)(real n) {
    return NAME(from_bits)((NAME(to_bits)(n + MAGIC) << MANTISSA_BITS) + NAME(to_bits)((real)1));
}

/* Return exp(r) - 1 for |r| <= log(2) / 2, by the Taylor series: float up to 1/7!, double up to 1/13!. */
INLINE real NAME(expm1_near_zero)(real r) {
    static const double inv_factorials[] = {1 / 2., 1 / 6., 1 / 24., 1 / 120., 1 / 720., 1 / 5040., 1 / 40320.,
        1 / 362880., 1 / 3628800., 1 / 39916800., 1 / 479001600., 1 / 6227020800.};
    const int terms = PICK(6, 12);
    real q = (real)inv_factorials[terms - 1];
    UNROLL
    for (int i = terms - 2; i >= 0; i--)
        q = q * r + (real)inv_factorials[i];
    return r + r * r * q;
}

/* x = n log(2) + r. */
struct NAME(reduced) {
    real n, r;
};
INLINE struct NAME(reduced) NAME(reduce)(real x) {
    const real log2_high = PICK(0x1.63p-1f, 0x1.62e42feep-1), log2_low = PICK(-0x1.bd0106p-13f, 0x1.a39ef35793c76p-33);
    const real n = NAME(rint)(x * PICK(0x1.715476p0f, 0x1.71547652b82fep0));
    return (struct NAME(reduced)){n, (x - n * log2_high) - n * log2_low};
}

/* exp(x) = 2^n exp(r). 2^n is computed as two factors, because n can exceed the exponents of normal numbers. */
INLINE real NAME(exp)(real x) {
    const real min = PICK(-104.0f, -746.0), max = PICK(89.0f, 710.0);
    const struct NAME(reduced) reduced = NAME(reduce)(x < min ? min : x > max ? max : x);
    const real half = NAME(rint)(reduced.n * (real)0.5);
    return (1 + NAME(expm1_near_zero)(reduced.r)) * NAME(exp2i)(half) * NAME(exp2i)(reduced.n - half);
}

/* exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), for x <= 0. */
INLINE real NAME(expm1)(real x) {
    const real min = PICK(-40.0f, -80.0);
    const struct NAME(reduced) reduced = NAME(reduce)(x < min ? min : x);
    const real power = NAME(exp2i)(reduced.n);
    return power * NAME(expm1_near_zero)(reduced.r) + (power - 1);
}

/* x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)]. With s = f / (2 + f) the series of log(1 + f) is 2 s + 2/3 s^3 + ...,
 * written as f - (f^2/2 - s (f^2/2 + R)) so that its large terms are exact; R is a polynomial in s^2 with the
 * coefficients of FreeBSD's msun. */
INLINE real NAME(log)(real x) {
    static const double coefficients[2][7] = {
        {0xaaaaaap-24, 0xccce13p-25, 0x91e9eep-25, 0xf89e26p-26},
        {0x1.5555555555593p-1, 0x1.999999997fa04p-2, 0x1.2492494229359p-2, 0x1.c71c51d8e78afp-3, 0x1.7466496cb03dep-3,
         0x1.39a09d078c69fp-3, 0x1.2f112df3e5244p-3},
    };
    const real log2_high = PICK(0x1.62e3p-1f, 0x1.62e42feep-1), log2_low = PICK(0x1.2fefa2p-17f, 0x1.a39ef35793c76p-33);
    const int terms = PICK(4, 7);
    const bool tiny = x < PICK(FLT_MIN, DBL_MIN);
    const BITS root_half = NAME(to_bits)(PICK(0x1.6a09e6p-1f, 0x1.6a09e667f3bcdp-1)), one = NAME(to_bits)((real)1);
    const BITS shifted = NAME(to_bits)(tiny ? x * PICK(0x1p25f, 0x1p54) : x) + (one - root_half);
    const real exponent = NAME(from_bits)((shifted >> MANTISSA_BITS) + NAME(to_bits)(MAGIC)) - MAGIC;
    const real k = exponent - (tiny ? PICK(127 + 25, 1023 + 54) : PICK(127, 1023));
    const real f = NAME(from_bits)((shifted & (((BITS)1 << MANTISSA_BITS) - 1)) + root_half) - 1;
    const real s = f / (2 + f), z = s * s, half_square = (real)0.5 * f * f;
    real r = (real)coefficients[PICK(0, 1)][terms - 1];
    UNROLL
    for (int i = terms - 2; i >= 0; i--)
        r = r * z + (real)coefficients[PICK(0, 1)][i];
    const real result = (s * (half_square + r * z) + k * log2_low - half_square) + f + k * log2_high;
    const real infinity = REAL_INFINITY;
    return x > 0 ? (x < infinity ? result : x) : x < 0 ? infinity - infinity : x == 0 ? -infinity : x;
}

/* log(1 + x) for x > -1: the logarithm of the rounded sum, corrected by the rounding error. */
INLINE real NAME(log1p)(real x) {
    const real sum = 1 + x;
    return NAME(log)(sum) - ((sum - 1) - x) / sum;
}

/* The sigmoid p = 1 / (1 + exp(-x)) and q = 1 - p, computed without that difference. */
struct NAME(sigmoid_pair) {
    real p, q;
};
INLINE struct NAME(sigmoid_pair) NAME(sigmoid_pair)(real x) {
    const real e = NAME(exp)(-NAME(fabs)(x)), larger = 1 / (1 + e), smaller = e / (1 + e);
    return (struct NAME(sigmoid_pair)){x >= 0 ? larger : smaller, x >= 0 ? smaller : larger};
}

#endif
