/* Arithmetic that the rules share. */
#ifndef FASTOPT_BASIC_H
#define FASTOPT_BASIC_H
#include "../real.h"

/* Return base^exponent by squaring: the same bits on every platform, which libm's pow does not promise. */
static inline double power(double base, int64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            result *= base;
        base *= base;
    }
    return result;
}

#define TEMPLATE "math/basic.h"
#include "../for_each_real.h"
#elif defined(real)

INLINE real NAME(sqrt)(real x) { return PICK(__builtin_sqrtf, __builtin_sqrt)(x); }

INLINE real NAME(fabs)(real x) { return PICK(__builtin_fabsf, __builtin_fabs)(x); }

/* Return x, or 0 if |x| is below a bound: arithmetic on denormals is slow on many processors. NaN stays NaN. */
INLINE real NAME(zero_below)(real bound, real x) { return NAME(fabs)(x) < bound ? 0 : x; }

/* For a state: flush denormals, because a decaying state would stay denormal for thousands of steps. */
INLINE real NAME(flush)(real x) { return NAME(zero_below)(PICK(FLT_MIN, DBL_MIN), x); }

/* For a state that is multiplied by a learning rate: flush values that a rate of 2^-26 would make denormal. */
INLINE real NAME(flush_to_scale)(real x) { return NAME(zero_below)(PICK(0x1p-100f, 0x1p-996), x); }

/* For a value that is squared: flush if the square, times 1 - beta >= 2^-14, would be flushed from the state. */
INLINE real NAME(flush_to_square)(real x) { return NAME(zero_below)(PICK(0x1p-56f, 0x1p-504), x); }

/* Return the magnitude below which a decayed parameter is flushed: repeated decay would make it denormal in the end.
 * Without decay (param_decay is 1) nothing is flushed. */
INLINE real NAME(min_decayed_param)(real param_decay) { return param_decay != 1 ? PICK(FLT_MIN, DBL_MIN) : 0; }

/* Return x + factor * y, or x if factor is 0, because 0 * infinity would be NaN. */
INLINE real NAME(add_scaled)(real x, real factor, real y) { return factor != 0 ? x + factor * y : x; }

#endif
