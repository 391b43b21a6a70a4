/* Small pieces of arithmetic that the rules share. */

INLINE real NAME(square_root)(real x) {
    return _Generic(x, float: __builtin_sqrtf, double: __builtin_sqrt)(x);
}

INLINE real NAME(magnitude)(real x) {
    return _Generic(x, float: __builtin_fabsf, double: __builtin_fabs)(x);
}

/* Arithmetic on denormals is slow on many processors. A NaN stays a NaN. */
INLINE real NAME(zero_below)(real least, real x) {
    return NAME(magnitude)(x) < least ? 0 : x;
}

/* What a state keeps: below the smallest normal number it is zero, for a state that decays would stay among the
 * denormals for thousands of steps. */
INLINE real NAME(flush)(real x) {
    return NAME(zero_below)(_Generic(x, float: FLT_MIN, double: DBL_MIN), x);
}

/* What a state keeps that is multiplied by a rate: zero where a rate of 2^-26 would lead among the denormals. */
INLINE real NAME(flush_to_scale)(real x) {
    return NAME(zero_below)(_Generic(x, float: 0x1p-100f, double: 0x1p-996), x);
}

/* What is squared: zero where the square, times 1 - beta down to 2^-14, would be nothing that a state keeps. */
INLINE real NAME(flush_to_square)(real x) {
    return NAME(zero_below)(_Generic(x, float: 0x1p-56f, double: 0x1p-504), x);
}

/* What a parameter may not fall below by decoupled decay, which would lead it among the denormals in the end; without
 * decay (shrink is 1) it may be anything. */
INLINE real NAME(least_decayed)(real shrink) {
    return shrink != 1 ? _Generic(shrink, float: FLT_MIN, double: DBL_MIN) : 0;
}

/* x + factor * y, and x alone where the factor is zero: 0 * infinity would be NaN. */
INLINE real NAME(plus)(real x, real factor, real y) {
    return factor != 0 ? x + factor * y : x;
}
