/* Batch normalization of the columns of a matrix. Mirrors fastopt/layers/_batch_norm.py.
 *
 * The rows are cut into chunks, which stay in a cache; a chunk yields two rows of numbers in double. Sixteen columns
 * are computed at a time. A block of rows is added up in the type itself, and the blocks in double. */
#ifndef FASTOPT_BATCH_NORM_H
#define FASTOPT_BATCH_NORM_H

#include "../math/basic.h"
#include "../math/reduce.h"
#include "op.h"

#define BLOCK_ROWS 16 /* rows of a block */

/* Return how many columns have overflowed (NaN counts, too) or could do so when chunks are merged. The caller computes
 * these again, divided and in double. */
INLINE double count_large(const double *sums, const double *products, int64_t columns) {
    int64_t large = 0;
    for (int64_t k = 0; k < columns; k++) {
        const bool sum_fits = fabs_double(sums[k]) < 0x1p480, product_fits = fabs_double(products[k]) < 0x1p960;
        large += !(sum_fits && product_fits);
    }
    return (double)large;
}

#define TEMPLATE "ops/batch_norm.h"
#include "../for_each_real.h"

#elif defined(real)

/* Compute the sums of u and of u (x - mean) of some columns, where u is grad or, without it, x - mean. */
INLINE void NAME(column_sums)(const real *x, const real *grad, const bool has_grad, const real *mean, int64_t rows,
                              int64_t stride, int columns, double *sums, double *products) {
    double sum[LANES] = {0}, product[LANES] = {0};
    for (int64_t first = 0; first < rows; first += BLOCK_ROWS) {
        const int count = rows - first < BLOCK_ROWS ? (int)(rows - first) : BLOCK_ROWS;
        real block_sum[LANES] = {0}, block_product[LANES] = {0};
        for (int row = 0; row < count; row++) {
            SIMD
            for (int k = 0; k < columns; k++) {
                const int64_t i = (first + row) * stride + k;
                const real d = x[i] - mean[k], u = has_grad ? grad[i] : d;
                block_sum[k] += u;
                block_product[k] += u * d;
            }
        }
        for (int k = 0; k < columns; k++) {
            sum[k] += (double)block_sum[k];
            product[k] += (double)block_product[k];
        }
    }
    memcpy(sums, sum, (size_t)columns * sizeof(double));
    memcpy(products, product, (size_t)columns * sizeof(double));
}

/* Compute the mean of some columns and the sum of the squared differences from it. The first pass finds a mean, which
 * is rounded; the second pass corrects it by the mean of the differences (Chan, Golub and LeVeque 1983). */
INLINE void NAME(column_moments)(const real *x, int64_t rows, int64_t stride, int columns, double *means,
                                 double *squares) {
    double sum[LANES] = {0}, rest[LANES] = {0}, square[LANES] = {0};
    real mean[LANES];
    for (int64_t first = 0; first < rows; first += BLOCK_ROWS) {
        const int count = rows - first < BLOCK_ROWS ? (int)(rows - first) : BLOCK_ROWS;
        real block_sum[LANES] = {0};
        for (int row = 0; row < count; row++) {
            SIMD
            for (int k = 0; k < columns; k++)
                block_sum[k] += x[(first + row) * stride + k];
        }
        for (int k = 0; k < columns; k++)
            sum[k] += (double)block_sum[k];
    }
    for (int k = 0; k < columns; k++)
        mean[k] = (real)(sum[k] / (double)rows);
    NAME(column_sums)(x, NULL, false, mean, rows, stride, columns, rest, square);
    for (int k = 0; k < columns; k++) {
        const double correction = rest[k] / (double)rows;
        means[k] = (double)mean[k] + correction;
        squares[k] = square[k] - rest[k] * correction;
    }
}

/* The moments of a chunk: a row of means and a row of sums of squared differences. Return the number of large ones. */
OP_OF(batch_norm_moments) {
    const int64_t columns = a.columns, rows = end - begin;
    const real *x = a.x + begin * columns;
    double *means = a.moments + begin / a.chunk * 2 * columns, *squares = means + columns;
    int64_t k = 0;
    for (; k + LANES <= columns; k += LANES) /* a constant for the compiler */
        NAME(column_moments)(x + k, rows, columns, LANES, means + k, squares + k);
    NAME(column_moments)(x + k, rows, columns, (int)(columns - k), means + k, squares + k);
    return count_large(means, squares, columns);
}

/* Store what the other passes need of a column, and update its running averages, if there are any. */
INLINE void NAME(store_column)(ARGUMENTS(batch_norm_merge_moments) a, int64_t k, double mean, double inverse_std,
                               double unbiased_variance) {
    a.inverse_std[k] = inverse_std;
    a.mean[k] = (real)mean;
    a.scale[k] = (real)((double)a.weight[k] * inverse_std);
    if (a.running_mean) {
        a.running_mean[k] = (real)((1 - a.momentum) * (double)a.running_mean[k] + a.momentum * mean);
        a.running_var[k] = (real)((1 - a.momentum) * (double)a.running_var[k] + a.momentum * unbiased_variance);
    }
}

/* Merge the moments of all chunks into those of the first (Chan, Golub and LeVeque 1979), and compute from them the
 * mean, inverse_std and scale for the other passes, and the running averages, which use the unbiased variance. If x was
 * divided by powers of two, they are in divisor, else it is NULL. The range is one of columns. */
OP_OF(batch_norm_merge_moments) {
    const int64_t columns = a.columns;
    const double rows = (double)a.rows;
    double *means = a.moments, *squares = a.moments + columns;
    for (int64_t merged = a.chunk; merged < a.rows; merged += a.chunk) {
        const double count = (double)(a.rows - merged < a.chunk ? a.rows - merged : a.chunk), before = (double)merged;
        const double share = count / (before + count), *other = a.moments + merged / a.chunk * 2 * columns;
        SIMD
        for (int64_t k = begin; k < end; k++) {
            const double d = other[k] - means[k];
            means[k] += share * d;
            squares[k] += other[columns + k] + before * share * (d * d);
        }
    }
    for (int64_t k = begin; k < end && !a.divisor; k++)
        NAME(store_column)(a, k, means[k], 1 / __builtin_sqrt(squares[k] / rows + a.eps), squares[k] / (rows - 1));
    for (int64_t k = begin; k < end && a.divisor; k++) {
        const double d = a.divisor[k], variance = squares[k] / rows * d * d, std = __builtin_sqrt(squares[k] / rows);
        const double inverse_std = variance > DBL_MAX ? 1 / std / d : 1 / __builtin_sqrt(variance + a.eps);
        NAME(store_column)(a, k, means[k] * d, inverse_std, squares[k] / (rows - 1) * d * d);
    }
    return 0;
}

/* y = (x - mean) scale + shift. */
OP_OF(batch_norm) {
    for (int64_t row = begin; row < end; row++) {
        SIMD
        for (int64_t k = 0; k < a.columns; k++)
            a.y[row * a.columns + k] = (a.x[row * a.columns + k] - a.mean[k]) * a.scale[k] + a.shift[k];
    }
    return 0;
}

/* The sums of a chunk: a row of sums of grad and a row of sums of grad * (x - mean). Return the number of large ones. */
OP_OF(batch_norm_backward_sums) {
    const int64_t columns = a.columns, rows = end - begin;
    const real *x = a.x + begin * columns, *grad = a.grad + begin * columns;
    double *sums = a.sums + begin / a.chunk * 2 * columns, *products = sums + columns;
    int64_t k = 0;
    for (; k + LANES <= columns; k += LANES)
        NAME(column_sums)(x + k, grad + k, true, a.mean + k, rows, columns, LANES, sums + k, products + k);
    NAME(column_sums)(x + k, grad + k, true, a.mean + k, rows, columns, (int)(columns - k), sums + k, products + k);
    return count_large(sums, products, columns);
}

/* Add up the sums of all chunks, and compute from them the gradients of weight and bias, and mean_grad and
 * mean_grad_xhat for the gradient of x. inv_rows is 0 if mean and variance do not depend on the batch. If x and mean
 * were divided by powers of two, they are in divisor, else it is NULL. The range is one of columns. */
OP_OF(batch_norm_reduce_backward) {
    const int64_t columns = a.columns;
    double *sums = a.sums, *products = a.sums + columns;
    for (int64_t chunk = 1; chunk < a.chunks; chunk++) {
        const double *other = sums + chunk * 2 * columns;
        SIMD
        for (int64_t k = begin; k < end; k++) {
            sums[k] += other[k];
            products[k] += other[columns + k];
        }
    }
    for (int64_t k = begin; k < end; k++) {
        const double divisor = a.divisor ? a.divisor[k] : 1, grad_weight = products[k] * (a.inverse_std[k] * divisor);
        a.grad_weight[k] = (real)grad_weight;
        a.grad_bias[k] = (real)sums[k];
        a.mean_grad[k] = (real)(a.inv_rows * sums[k]);
        a.mean_grad_xhat[k] = (real)(a.inv_rows * grad_weight * a.inverse_std[k]);
    }
    return 0;
}

/* out = scale (grad - mean_grad - (x - mean) mean_grad_xhat). */
OP_OF(batch_norm_backward) {
    for (int64_t row = begin; row < end; row++) {
        SIMD
        for (int64_t k = 0; k < a.columns; k++) {
            const int64_t i = row * a.columns + k;
            a.out[i] = a.scale[k] * (a.grad[i] - a.mean_grad[k] - (a.x[i] - a.mean[k]) * a.mean_grad_xhat[k]);
        }
    }
    return 0;
}

#endif
