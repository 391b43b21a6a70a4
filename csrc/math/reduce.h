/* Sums in a fixed shape. */

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
