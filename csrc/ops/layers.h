/* Layers: dropout and batch norm, and the penalty on weights. Each mirrors a function in fastopt/layers.py. */

TASK_OF(dropout) {
    const real *x = a[0], scale = (real)n[4];
    real *y = a[1];
    const struct philox_key key = key_of(n[0], n[1], n[2], DROPOUT_STREAM);
    const uint32_t dropped = (uint32_t)n[3]; /* of the 2^32 numbers */
    for (int64_t i = begin; i < end; i += RANDOM_BLOCK) { /* begin is a multiple of it */
        const int count = end - i < RANDOM_BLOCK ? (int)(end - i) : RANDOM_BLOCK;
        uint32_t words[RANDOM_BLOCK];
        random_block(words, key, i / RANDOM_BLOCK);
        SIMD
        for (int k = 0; k < count; k++)
            y[i + k] = words[k] >= dropped ? x[i + k] * scale : 0;
    }
    return 0;
}

/* The sum of x^2; adds factor x to grad, where there is one. */
TASK_OF(l2_penalty) {
    const real *x = a[0], factor = (real)n[0];
    real *grad = a[1];
    double lanes[LANES] = {0};
    for (int64_t i = begin; i < end; i += PIECE) {
        const int count = end - i < PIECE ? (int)(end - i) : PIECE;
        for (int k = 0; k < count; k++) {
            const double value = (double)x[i + k];
            lanes[k % LANES] += value * value;
        }
        for (int k = 0; grad && k < count; k++)
            grad[i + k] += factor * x[i + k];
    }
    return fold(lanes);
}

/* Batch norm -------------------------------------------------------------------------------------------------------
 *
 * Of each column of a matrix. A part of the rows, which stays in a cache, gives two rows of numbers in double; columns
 * are taken sixteen at a time. A run of rows is added up in the type itself, and what it gives in double. */

/* Of some columns of some rows the mean, and the sum of the squares of the differences from it. What the mean of the
 * first pass is off, for it is rounded, the second finds out (Chan, Golub and LeVeque 1983). */
INLINE void NAME(column_moments)(const real *x, int64_t rows, int64_t stride, int columns, double *means,
                                 double *squares) {
    double sum[LANES] = {0}, rest[LANES] = {0}, square[LANES] = {0};
    real mean[LANES];
    for (int64_t first = 0; first < rows; first += RUN) {
        const int count = rows - first < RUN ? (int)(rows - first) : RUN;
        real run[LANES] = {0};
        for (int row = 0; row < count; row++) {
            SIMD
            for (int k = 0; k < columns; k++)
                run[k] += x[(first + row) * stride + k];
        }
        for (int k = 0; k < columns; k++)
            sum[k] += (double)run[k];
    }
    for (int k = 0; k < columns; k++)
        mean[k] = (real)(sum[k] / (double)rows);
    for (int64_t first = 0; first < rows; first += RUN) {
        const int count = rows - first < RUN ? (int)(rows - first) : RUN;
        real run[LANES] = {0}, run_of_squares[LANES] = {0};
        for (int row = 0; row < count; row++) {
            SIMD
            for (int k = 0; k < columns; k++) {
                const real d = x[(first + row) * stride + k] - mean[k];
                run[k] += d;
                run_of_squares[k] += d * d;
            }
        }
        for (int k = 0; k < columns; k++) {
            rest[k] += (double)run[k];
            square[k] += (double)run_of_squares[k];
        }
    }
    for (int k = 0; k < columns; k++) {
        const double off = rest[k] / (double)rows;
        means[k] = (double)mean[k] + off;
        squares[k] = square[k] - rest[k] * off;
    }
}

TASK_OF(batch_norm_moments) {
    const int64_t columns = (int64_t)n[0], rows = end - begin;
    const real *x = (const real *)a[0] + begin * columns;
    double *means = (double *)a[1] + begin / (int64_t)n[1] * 2 * columns, *squares = means + columns;
    int64_t k = 0;
    for (; k + LANES <= columns; k += LANES) /* a number that the compiler knows */
        NAME(column_moments)(x + k, rows, columns, LANES, means + k, squares + k);
    NAME(column_moments)(x + k, rows, columns, (int)(columns - k), means + k, squares + k);
    return 0;
}

/* The parts together, in the first of them (Chan, Golub and LeVeque 1979). */
INLINE void NAME(join_moments)(double *parts, int64_t columns, int64_t rows, int64_t grain, int64_t begin,
                               int64_t end) {
    double *mean = parts, *square = parts + columns;
    for (int64_t so_far = grain; so_far < rows; so_far += grain) {
        const double count = (double)(rows - so_far < grain ? rows - so_far : grain), before = (double)so_far;
        const double share = count / (before + count), *other = parts + so_far / grain * 2 * columns;
        SIMD
        for (int64_t k = begin; k < end; k++) {
            const double d = other[k] - mean[k];
            mean[k] += share * d;
            square[k] += other[columns + k] + before * share * (d * d);
        }
    }
}

/* What the other passes need of the moments, and the running averages, with the unbiased variance. */
TASK_OF(batch_norm_join) {
    const real *weight = a[2];
    real *mean = a[3], *scale = a[4], *running_mean = a[6], *running_var = a[7];
    double *parts = a[1], *inverse_std = a[5];
    const int64_t columns = (int64_t)n[0], rows = (int64_t)n[1];
    const double eps = n[3], momentum = n[4];
    NAME(join_moments)(parts, columns, rows, (int64_t)n[2], begin, end);
    for (int64_t k = begin; k < end; k++) {
        const double square = parts[columns + k];
        inverse_std[k] = 1 / __builtin_sqrt(square / (double)rows + eps);
        mean[k] = (real)parts[k];
        scale[k] = (real)((double)weight[k] * inverse_std[k]);
        if (running_mean) {
            running_mean[k] = (real)((1 - momentum) * (double)running_mean[k] + momentum * parts[k]);
            running_var[k] =
                (real)((1 - momentum) * (double)running_var[k] + momentum * (square / (double)(rows - 1)));
        }
    }
    return 0;
}

/* (x - mean) scale + shift. */
TASK_OF(batch_norm) {
    const real *x = a[0], *mean = a[2], *scale = a[3], *shift = a[4];
    real *y = a[1];
    const int64_t columns = (int64_t)n[0];
    for (int64_t row = begin; row < end; row++) {
        SIMD
        for (int64_t k = 0; k < columns; k++)
            y[row * columns + k] = (x[row * columns + k] - mean[k]) * scale[k] + shift[k];
    }
    return 0;
}

/* Of some columns the sum of the gradient, and that of its product with x - mean. */
INLINE void NAME(column_sums)(const real *x, const real *grad, const real *mean, int64_t rows, int64_t stride,
                              int columns, double *sums, double *products) {
    double sum[LANES] = {0}, product[LANES] = {0};
    for (int64_t first = 0; first < rows; first += RUN) {
        const int count = rows - first < RUN ? (int)(rows - first) : RUN;
        real run[LANES] = {0}, run_of_products[LANES] = {0};
        for (int row = 0; row < count; row++) {
            SIMD
            for (int k = 0; k < columns; k++) {
                const int64_t i = (first + row) * stride + k;
                run[k] += grad[i];
                run_of_products[k] += grad[i] * (x[i] - mean[k]);
            }
        }
        for (int k = 0; k < columns; k++) {
            sum[k] += (double)run[k];
            product[k] += (double)run_of_products[k];
        }
    }
    memcpy(sums, sum, (size_t)columns * sizeof(double));
    memcpy(products, product, (size_t)columns * sizeof(double));
}

TASK_OF(batch_norm_sums) {
    const int64_t columns = (int64_t)n[0], rows = end - begin;
    const real *x = (const real *)a[0] + begin * columns, *grad = (const real *)a[1] + begin * columns, *mean = a[2];
    double *sums = (double *)a[3] + begin / (int64_t)n[1] * 2 * columns, *products = sums + columns;
    int64_t k = 0;
    for (; k + LANES <= columns; k += LANES)
        NAME(column_sums)(x + k, grad + k, mean + k, rows, columns, LANES, sums + k, products + k);
    NAME(column_sums)(x + k, grad + k, mean + k, rows, columns, (int)(columns - k), sums + k, products + k);
    return 0;
}

/* The parts added up: the gradients of weight and bias, and what that of x needs. over_rows is 0 where the mean and the
 * variance are not of the batch. */
TASK_OF(batch_norm_add) {
    double *sum = a[1], *product = sum + (int64_t)n[0];
    const double *inverse_std = a[2], over_rows = n[2];
    real *grad_weight = a[3], *grad_bias = a[4], *of_grad = a[5], *of_product = a[6];
    const int64_t columns = (int64_t)n[0], parts = (int64_t)n[1];
    for (int64_t part = 1; part < parts; part++) {
        const double *other = sum + part * 2 * columns;
        SIMD
        for (int64_t k = begin; k < end; k++) {
            sum[k] += other[k];
            product[k] += other[columns + k];
        }
    }
    for (int64_t k = begin; k < end; k++) {
        const double of_weight = product[k] * inverse_std[k];
        grad_weight[k] = (real)of_weight;
        grad_bias[k] = (real)sum[k];
        of_grad[k] = (real)(over_rows * sum[k]);
        of_product[k] = (real)(over_rows * of_weight * inverse_std[k]);
    }
    return 0;
}

/* scale (grad - of_grad - (x - mean) of_product). */
TASK_OF(batch_norm_gradient) {
    const real *x = a[0], *grad = a[1], *mean = a[3], *scale = a[4], *of_grad = a[5], *of_product = a[6];
    real *out = a[2];
    const int64_t columns = (int64_t)n[0];
    for (int64_t row = begin; row < end; row++) {
        SIMD
        for (int64_t k = 0; k < columns; k++) {
            const int64_t i = row * columns + k;
            out[i] = scale[k] * (grad[i] - of_grad[k] - (x[i] - mean[k]) * of_product[k]);
        }
    }
    return 0;
}

/* x += y: gradients that are accumulated. */
TASK_OF(add) {
    real *x = a[0];
    const real *y = a[1];
    (void)n;
    SIMD
    for (int64_t i = begin; i < end; i++)
        x[i] += y[i];
    return 0;
}
