/* Small pieces of arithmetic that the rules share. */

INLINE real NAME(square_root)(real x) {
    return _Generic(x, float: __builtin_sqrtf, double: __builtin_sqrt)(x);
}

/* What a state keeps: below the smallest normal number it is zero, for arithmetic on denormals is slow on many
 * processors and a state that decays would stay there for thousands of steps. A NaN stays a NaN. */
INLINE real NAME(flush)(real x) {
    const real smallest_normal = _Generic(x, float: FLT_MIN, double: DBL_MIN);
    const real magnitude = _Generic(x, float: __builtin_fabsf, double: __builtin_fabs)(x);
    return magnitude < smallest_normal ? 0 : x;
}

/* x + factor * y, and x alone where the factor is zero: 0 * infinity would be NaN. */
INLINE real NAME(plus)(real x, real factor, real y) {
    return factor != 0 ? x + factor * y : x;
}
