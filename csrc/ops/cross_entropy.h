/* Cross entropy of rows of logits: value and gradient. Mirrors fastopt/losses/_classification.py. */
#ifndef FASTOPT_CROSS_ENTROPY_H
#define FASTOPT_CROSS_ENTROPY_H
#include "op.h"
#include "softmax.h"
#include "targets.h"
#define TEMPLATE "ops/cross_entropy.h"
#include "../for_each_real.h"
#elif defined(real)

/* Return the weighted target of class k without the label: w_k ((1 - s) q_k + s / columns). */
INLINE real NAME(class_target)(const real *weight, const real *target, real smoothing, real spread, int64_t k) {
    return (weight ? weight[k] : 1) * (target ? (1 - smoothing) * target[k] + spread : spread);
}

/* Compute the sum of a row's class targets t, and the sum of t (x - row_max). */
INLINE void NAME(sum_targets)(const real *x, const real *target, const real *weight, int64_t columns,
                              real smoothing, real spread, double *total, double *product) {
    const real row_max = NAME(max_of)(x, columns);
    double totals[LANES] = {0}, products[LANES] = {0};
    for (int64_t i = 0; i < columns; i += BLOCK) {
        const int count = columns - i < BLOCK ? (int)(columns - i) : BLOCK;
        real block_targets[BLOCK], block_products[BLOCK];
        SIMD
        for (int k = 0; k < count; k++) {
            const real t = NAME(class_target)(weight, target, smoothing, spread, i + k);
            block_targets[k] = t;
            block_products[k] = t != 0 ? t * (x[i + k] - row_max) : 0;
        }
        NAME(add_to_lanes)(totals, block_targets, count);
        NAME(add_to_lanes)(products, block_products, count);
    }
    *total = fold(totals);
    *product = fold(products);
}

/* -sum of t log(softmax(x)), where t is the class target, plus w (1 - s) at the label. With T the sum of t:
 * loss = T log(sum of exp(x - row_max)) - sum of t (x - row_max), gradient = T softmax(x) - t.
 * Rows whose label is ignore_index have loss and gradient 0. Return -infinity if a target is not in [0, 1]. */
OP_OF(cross_entropy) {
    const real factor = (real)a.factor, smoothing = (real)a.label_smoothing;
    const real spread = smoothing / (real)a.columns;
    const bool every_class = a.target || smoothing != 0;
    const int64_t columns = a.columns;
    double sum = 0;
    for (int64_t first = begin; first < end; first += LANES) {
        const int rows = end - first < LANES ? (int)(end - first) : LANES;
        real row_max[LANES], label_target[LANES] = {0}, label_x[LANES] = {0};
        double sums[LANES] = {0}, totals[LANES] = {0}, products[LANES] = {0}, loss[LANES];
        for (int i = 0; i < rows; i++) { /* everything that needs x, which grad may overwrite */
            const int64_t row = first + i;
            const real *x_row = a.x + row * columns;
            if (a.label && a.label[row] == a.ignore_index)
                continue;
            if (every_class)
                NAME(sum_targets)(x_row, a.target ? a.target + row * columns : NULL, a.weight, columns, smoothing,
                                  spread, &totals[i], &products[i]);
            if (a.label) {
                label_target[i] = (1 - smoothing) * (a.weight ? a.weight[a.label[row]] : 1);
                label_x[i] = x_row[a.label[row]];
                totals[i] += (double)label_target[i];
            }
        }
        const int64_t offset = first * columns;
        NAME(scaled_softmax)(a.x + offset, rows, a.grad + offset, columns, totals, factor, row_max, sums);
        for (int i = 0; i < rows; i++)
            products[i] += label_target[i] != 0 ? (double)(label_target[i] * (label_x[i] - row_max[i])) : 0;
        FOR_LANES(i)
            loss[i] = totals[i] * log_double(sums[i]) - products[i];
        for (int i = 0; i < rows; i++) {
            const int64_t row = first + i;
            real *grad_row = a.grad + row * columns;
            if (a.label && a.label[row] == a.ignore_index) {
                memset(grad_row, 0, (size_t)columns * sizeof(real));
                loss[i] = 0;
            } else {
                const real *target_row = a.target ? a.target + row * columns : NULL;
                for (int64_t k = 0; every_class && k < columns; k++)
                    grad_row[k] -= factor * NAME(class_target)(a.weight, target_row, smoothing, spread, k);
                if (a.label)
                    grad_row[a.label[row]] -= factor * label_target[i];
            }
            sum += loss[i];
            if (a.values)
                a.values[row] = (real)loss[i];
        }
    }
    return a.target ? NAME(sum_or_outside)(sum, a.target, begin * columns, end * columns) : sum;
}

#endif
