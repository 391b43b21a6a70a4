/* Sums of a fixed shape: element i is added to lane i % 16, and the lanes are folded by halves. The result does not
 * depend on the vector width, and sixteen lanes hide the latency of the addition. Lanes are double, so no float
 * overflows. */
#ifndef FASTOPT_REDUCE_H
#define FASTOPT_REDUCE_H

#include "../real.h"

#define LANES 16
#define BLOCK 256 /* elements that are computed, and kept in the first-level cache, before they are added up */
/* The head of a loop over all lanes, side by side. */
#define FOR_LANES(lane) SIMD for (int lane = 0; lane < LANES; lane++)

INLINE double fold(double lanes[LANES]) {
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    return lanes[0];
}

#define TEMPLATE "math/reduce.h"
#include "../for_each_real.h"

#elif defined(real)

INLINE void NAME(add_to_lanes)(double lanes[LANES], const real *x, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        FOR_LANES(lane)
            lanes[lane] += (double)x[i + lane];
    for (int lane = 0; i < count; i++, lane++)
        lanes[lane] += (double)x[i];
}

INLINE void NAME(add_squares)(double lanes[LANES], const real *x) {
    FOR_LANES(lane)
        lanes[lane] += (double)x[lane] * (double)x[lane];
}

static inline double NAME(sum_squares)(const void *array, int64_t begin, int64_t end) {
    const real *x = array;
    double lanes[LANES] = {0};
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES)
        NAME(add_squares)(lanes, x + i);
    real rest[LANES] = {0}; /* adding zeros changes no lane */
    memcpy(rest, x + i, (size_t)(end - i) * sizeof(real));
    NAME(add_squares)(lanes, rest);
    return fold(lanes);
}

#endif
