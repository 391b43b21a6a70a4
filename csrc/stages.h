/* What else can happen to a chunk while it is in cache. */

/* The moving average of the weights (Polyak & Juditsky 1992, in its exponential form): decay * e + (1 - decay) * p,
 * computed from the difference. The two products, each rounded, drift: in float32, with a decay of 0.9999, by 3e-4,
 * against 7e-6. Where both are the same infinity there is no difference to compute. */
KERNEL_OF(average) {
    real *ema = s[0];
    const real *param = s[1];
    COEFFICIENTS(average) k = *(COEFFICIENTS(average) *)c;
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real difference = param[i] - ema[i];
        const real near_ema = ema[i] + k.one_minus_ema_decay * difference;
        const real near_param = NAME(plus)(param[i], -k.ema_decay, difference);
        const real moved = k.one_minus_ema_decay < (real)0.5 ? near_ema : near_param;
        ema[i] = NAME(flush)(param[i] == ema[i] ? ema[i] : moved);
    }
}

KERNEL_OF(fill) {
    real *grad = s[0];
    const real value = ((COEFFICIENTS(fill) *)c)->fill_value;
    SIMD
    for (int64_t i = begin; i < end; i++)
        grad[i] = value;
}

/* The sum of squares in a fixed shape: element i goes to lane i % 16, counted from begin; the lanes are folded by
 * halves. In double, so that no float overflows. Sixteen lanes vectorise on every instruction set and hide the
 * latency of the addition. */
#ifndef LANES
#define LANES 16
INLINE double fold(double lanes[LANES]) {
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    return lanes[0];
}
#endif

INLINE void NAME(add_squares)(double lanes[LANES], const real *x) {
    SIMD
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] += (double)x[lane] * (double)x[lane];
}

static double NAME(sum_squares)(const void *stream, int64_t begin, int64_t end) {
    const real *x = stream;
    double lanes[LANES] = {0};
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES)
        NAME(add_squares)(lanes, x + i);
    real rest[LANES] = {0}; /* zeros change no lane */
    memcpy(rest, x + i, (size_t)(end - i) * sizeof(real));
    NAME(add_squares)(lanes, rest);
    return fold(lanes);
}
