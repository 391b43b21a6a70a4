/* Ops that are functions of elements. */
#ifndef FASTOPT_ELEMENTWISE_H
#define FASTOPT_ELEMENTWISE_H
#include "../math/exp_log.h"
#include "op.h"
#define TEMPLATE "ops/elementwise.h"
#include "../for_each_real.h"
#elif defined(real)

OP_OF(exp) {
    SIMD
    for (int64_t i = begin; i < end; i++)
        a.y[i] = NAME(exp)(a.x[i]);
    return 0;
}

OP_OF(log) {
    SIMD
    for (int64_t i = begin; i < end; i++)
        a.y[i] = NAME(log)(a.x[i]);
    return 0;
}

/* x += y: accumulate a gradient. */
OP_OF(add) {
    SIMD
    for (int64_t i = begin; i < end; i++)
        a.x[i] += a.y[i];
    return 0;
}

/* Return the number of labels that are not ignored, or -infinity if one of these is not in [0, classes). */
OP_OF(count_labels) {
    int64_t ignored = 0, wrong = 0;
    _Pragma("omp simd reduction(+ : ignored, wrong)")
    for (int64_t i = begin; i < end; i++) {
        const int64_t is_ignored = a.label[i] == a.ignore_index;
        ignored += is_ignored;
        wrong += (a.label[i] < 0 || a.label[i] >= a.classes) & !is_ignored;
    }
    return wrong ? -__builtin_inf() : (double)(end - begin - ignored);
}

#endif
