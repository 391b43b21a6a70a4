/* exp and log: those of libm differ from platform to platform, these don't. Within 2 units in the last place.
 *
 * Whole numbers live in the lowest bits of a real to which MAGIC was added, so that nothing is converted and the loops
 * vectorise on every instruction set. */

#ifndef MAGIC
#define BITS_float uint32_t
#define BITS_double uint64_t
#define BITS PASTE(BITS, real)
#define PICK(of_float, of_double) _Generic((real)0, float: of_float, double: of_double)
#define MANTISSA PICK(23, 52)
#define MAGIC PICK(0x1.8p23f, 0x1.8p52)
#endif

INLINE BITS NAME(bits_of)(real x) {
    BITS bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE real NAME(from_bits)(BITS bits) {
    real x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE real NAME(round)(real x) { return (x + MAGIC) - MAGIC; }

/* 2^n, n whole, where that is a normal number. */
INLINE real NAME(power_of_two)(real n) {
    return NAME(from_bits)((NAME(bits_of)(n + MAGIC) << MANTISSA) + NAME(bits_of)((real)1));
}

/* exp(r) - 1 for |r| <= log(2) / 2: the Taylor series, in float as far as 1/7!, in double as far as 1/13!. */
INLINE real NAME(expm1_near_zero)(real r) {
    static const double over_factorials[] = {1 / 2., 1 / 6., 1 / 24., 1 / 120., 1 / 720., 1 / 5040., 1 / 40320.,
        1 / 362880., 1 / 3628800., 1 / 39916800., 1 / 479001600., 1 / 6227020800.};
    const int terms = PICK(6, 12);
    real q = (real)over_factorials[terms - 1];
    for (int i = terms - 2; i >= 0; i--)
        q = q * r + (real)over_factorials[i];
    return r + r * r * q;
}

/* x = n log(2) + r. */
struct NAME(reduced) {
    real n, r;
};
INLINE struct NAME(reduced) NAME(reduce)(real x) {
    const real high = PICK(0x1.63p-1f, 0x1.62e42feep-1), low = PICK(-0x1.bd0106p-13f, 0x1.a39ef35793c76p-33);
    const real n = NAME(round)(x * PICK(0x1.715476p0f, 0x1.71547652b82fep0));
    return (struct NAME(reduced)){n, (x - n * high) - n * low};
}

/* exp(x) = 2^n exp(r); 2^n in two factors, for n goes beyond the exponents of normal numbers. */
INLINE real NAME(exponential)(real x) {
    const real least = PICK(-104.0f, -746.0), most = PICK(89.0f, 710.0);
    const struct NAME(reduced) by = NAME(reduce)(x < least ? least : x > most ? most : x);
    const real half = NAME(round)(by.n * (real)0.5);
    return (1 + NAME(expm1_near_zero)(by.r)) * NAME(power_of_two)(half) * NAME(power_of_two)(by.n - half);
}

/* exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), for x <= 0. */
INLINE real NAME(exponential_minus_one)(real x) {
    const real least = PICK(-40.0f, -80.0);
    const struct NAME(reduced) by = NAME(reduce)(x < least ? least : x);
    const real power = NAME(power_of_two)(by.n);
    return power * NAME(expm1_near_zero)(by.r) + (power - 1);
}

/* x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)]. With s = f / (2 + f) the series of log(1 + f) is 2 s + 2/3 s^3 + ...,
 * which is written as f - (f^2/2 - s (f^2/2 + R)) so that its large terms are exact; R in powers of s^2 with the
 * coefficients of FreeBSD's msun. */
INLINE real NAME(logarithm)(real x) {
    static const double coefficients[2][7] = {
        {0xaaaaaap-24, 0xccce13p-25, 0x91e9eep-25, 0xf89e26p-26},
        {0x1.5555555555593p-1, 0x1.999999997fa04p-2, 0x1.2492494229359p-2, 0x1.c71c51d8e78afp-3, 0x1.7466496cb03dep-3,
         0x1.39a09d078c69fp-3, 0x1.2f112df3e5244p-3},
    };
    const real log2_high = PICK(0x1.62e3p-1f, 0x1.62e42feep-1), log2_low = PICK(0x1.2fefa2p-17f, 0x1.a39ef35793c76p-33);
    const int terms = PICK(4, 7);
    const bool tiny = x < PICK(FLT_MIN, DBL_MIN);
    const BITS root_half = NAME(bits_of)(PICK(0x1.6a09e6p-1f, 0x1.6a09e667f3bcdp-1)), one = NAME(bits_of)((real)1);
    const BITS shifted = NAME(bits_of)(tiny ? x * PICK(0x1p25f, 0x1p54) : x) + (one - root_half);
    const real exponent = NAME(from_bits)((shifted >> MANTISSA) + NAME(bits_of)(MAGIC)) - MAGIC;
    const real k = exponent - (tiny ? PICK(127 + 25, 1023 + 54) : PICK(127, 1023));
    const real f = NAME(from_bits)((shifted & (((BITS)1 << MANTISSA) - 1)) + root_half) - 1;
    const real s = f / (2 + f), z = s * s, half_square = (real)0.5 * f * f;
    real r = (real)coefficients[PICK(0, 1)][terms - 1];
    for (int i = terms - 2; i >= 0; i--)
        r = r * z + (real)coefficients[PICK(0, 1)][i];
    const real result = (s * (half_square + r * z) + k * log2_low - half_square) + f + k * log2_high;
    const real infinity = PICK(__builtin_inff(), __builtin_inf());
    return x > 0 ? (x < infinity ? result : x) : x < 0 ? infinity - infinity : x == 0 ? -infinity : x;
}

/* log(1 + x), x > -1: the logarithm of the rounded sum, and what the rounding lost. */
INLINE real NAME(logarithm_of_one_plus)(real x) {
    const real sum = 1 + x;
    return NAME(logarithm)(sum) - ((sum - 1) - x) / sum;
}

TASK_OF(exponential) {
    const real *x = a[0];
    real *y = a[1];
    (void)n;
    SIMD
    for (int64_t i = begin; i < end; i++)
        y[i] = NAME(exponential)(x[i]);
    return 0;
}

TASK_OF(logarithm) {
    const real *x = a[0];
    real *y = a[1];
    (void)n;
    SIMD
    for (int64_t i = begin; i < end; i++)
        y[i] = NAME(logarithm)(x[i]);
    return 0;
}
