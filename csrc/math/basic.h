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

/* A decaying value would stay denormal for thousands of steps, so one step of FASTOPT_FLUSH_PERIOD flushes the states
 * and the parameters that decay. A decay of 0.9 per step takes five bits from one flush to the next, which the
 * thresholds have in reserve; a faster decay makes a value denormal for a few steps only. */

/* For a state: flush what would be denormal before the next flush. */
#define MIN_DECAYING PICK(0x1p-121f, 0x1p-1017)
INLINE real NAME(flush)(bool flush, real x) { return flush ? NAME(zero_below)(MIN_DECAYING, x) : x; }

/* For a state that is multiplied by a learning rate: flush what a rate of 2^-26 would make denormal by then. */
INLINE real NAME(flush_to_scale)(bool flush, real x) {
    return flush ? NAME(zero_below)(PICK(0x1p-95f, 0x1p-991), x) : x;
}

/* For a value that is squared, in every step: flush if the square, times 1 - beta >= 2^-14, would be flushed from the
 * state. */
INLINE real NAME(flush_to_square)(real x) { return NAME(zero_below)(PICK(0x1p-53f, 0x1p-501), x); }

/* Return a parameter after decoupled decay. One that does not decay (param_decay is 1) is not flushed. */
INLINE real NAME(decayed)(bool flush, real param_decay, real param) {
    const real min_param = param_decay != 1 ? MIN_DECAYING : 0;
    return flush ? NAME(zero_below)(min_param, param_decay * param) : param_decay * param;
}
#undef MIN_DECAYING

/* Return x + factor * y, or x if factor is 0, because 0 * infinity would be NaN. */
INLINE real NAME(add_scaled)(real x, real factor, real y) { return factor != 0 ? x + factor * y : x; }

#endif
