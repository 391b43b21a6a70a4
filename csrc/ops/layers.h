/* Dropout, the L2 penalty, and other ops on elements. Mirrors fastopt/layers/_elements.py and fastopt/_util/random.py. */
#ifndef FASTOPT_LAYERS_H
#define FASTOPT_LAYERS_H
#include "../math/exp_log.h"
#include "../math/random.h"
#include "../math/reduce.h"
#include "op.h"

/* MAP_OF(op, result, value): define an op that assigns a value to each element i. */
#define MAP_OF(op, result, value) \
    OP_OF(op) { \
        SIMD \
        for (int64_t i = begin; i < end; i++) \
            result = value; \
        return 0; \
    }

#define TEMPLATE "ops/layers.h"
#include "../for_each_real.h"
#elif defined(real)

/* begin must be a multiple of RANDOM_BLOCK. Without blocks, they are numbered from 0. */
OP_OF(random_words) {
    const struct philox_key key = {a.seed, (uint64_t)a.step, (uint32_t)a.stream};
    for (int64_t i = begin; i < end; i += RANDOM_BLOCK) {
        uint32_t words[RANDOM_BLOCK];
        random_block(words, key, a.blocks ? a.blocks[i / RANDOM_BLOCK] : i / RANDOM_BLOCK);
        memcpy(a.x + i, words, (size_t)(end - i < RANDOM_BLOCK ? end - i : RANDOM_BLOCK) * sizeof(uint32_t));
    }
    return 0;
}

/* Drop the elements whose random number is below a.dropped (of 2^32). begin must be a multiple of RANDOM_BLOCK. */
OP_OF(dropout) {
    const real scale = (real)a.scale;
    const struct philox_key key = {a.seed, (uint64_t)a.step, DROPOUT_STREAM};
    const uint32_t dropped = (uint32_t)a.dropped;
    for (int64_t i = begin; i < end; i += RANDOM_BLOCK) {
        const int count = end - i < RANDOM_BLOCK ? (int)(end - i) : RANDOM_BLOCK;
        uint32_t words[RANDOM_BLOCK];
        random_block(words, key, i / RANDOM_BLOCK);
        SIMD
        for (int k = 0; k < count; k++)
            a.y[i + k] = words[k] >= dropped ? a.x[i + k] * scale : 0;
    }
    return 0;
}

/* Return the sum of x^2, and add factor * x to grad unless that is NULL. */
OP_OF(l2_penalty) {
    const real factor = (real)a.factor;
    double lanes[LANES] = {0};
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int count = end - i < BLOCK ? (int)(end - i) : BLOCK;
        for (int k = 0; k < count; k++) {
            const double value = (double)a.x[i + k];
            lanes[k % LANES] += value * value;
        }
        for (int k = 0; a.grad && k < count; k++)
            a.grad[i + k] += factor * a.x[i + k];
    }
    return fold(lanes);
}

MAP_OF(exp, a.y[i], NAME(exp)(a.x[i]))
MAP_OF(log, a.y[i], NAME(log)(a.x[i]))
MAP_OF(add, a.x[i], a.x[i] + a.y[i]) /* accumulates a gradient */

#endif
