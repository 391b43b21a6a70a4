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
 * Of each column of a matrix. A part of the rows, which stays in a cache, gives two rows of numbers in double; columns are
 * taken sixteen at a time. */

/* Of each column the mean, and the sum of the squares of the differences from it. */
TASK_OF(batch_norm_moments) {
    const real *x = a[0];
    const int64_t columns = (int64_t)n[0];
    double *means = (double *)a[1] + begin / (int64_t)n[1] * 2 * columns, *squares = means + columns;
    for (int64_t first = 0; first < columns; first += LANES) {
        const int count = columns - first < LANES ? (int)(columns - first) : LANES;
        double mean[LANES] = {0}, square[LANES] = {0};
        for (int64_t row = begin; row < end; row++)
            for (int k = 0; k < count; k++)
                mean[k] += (double)x[row * columns + first + k];
        for (int k = 0; k < count; k++)
            mean[k] /= (double)(end - begin);
        for (int64_t row = begin; row < end; row++)
            for (int k = 0; k < count; k++) {
                const double d = (double)x[row * columns + first + k] - mean[k];
                square[k] += d * d;
            }
        memcpy(means + first, mean, (size_t)count * sizeof(double));
        memcpy(squares + first, square, (size_t)count * sizeof(double));
    }
    return 0;
}

/* The parts together, in the first of them (Chan, Golub and LeVeque 1979). */
TASK_OF(batch_norm_join) {
    double *parts = a[0];
    const int64_t columns = (int64_t)n[0], rows = (int64_t)n[1], grain = (int64_t)n[2];
    double *mean = parts, *square = parts + columns;
    for (int64_t first = grain; first < rows; first += grain) {
        const double count = (double)(rows - first < grain ? rows - first : grain), so_far = (double)first;
        const double share = count / (so_far + count), *other = parts + first / grain * 2 * columns;
        SIMD
        for (int64_t k = begin; k < end; k++) {
            const double d = other[k] - mean[k];
            mean[k] += share * d;
            square[k] += other[columns + k] + so_far * share * (d * d);
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

/* Of each column the sum of the gradient, and that of its product with x - mean. */
TASK_OF(batch_norm_sums) {
    const real *x = a[0], *grad = a[1], *mean = a[2];
    const int64_t columns = (int64_t)n[0];
    double *sums = (double *)a[3] + begin / (int64_t)n[1] * 2 * columns, *products = sums + columns;
    for (int64_t first = 0; first < columns; first += LANES) {
        const int count = columns - first < LANES ? (int)(columns - first) : LANES;
        double sum[LANES] = {0}, product[LANES] = {0};
        for (int64_t row = begin; row < end; row++)
            for (int k = 0; k < count; k++) {
                const real g = grad[row * columns + first + k];
                sum[k] += (double)g;
                product[k] += (double)(g * (x[row * columns + first + k] - mean[first + k]));
            }
        memcpy(sums + first, sum, (size_t)count * sizeof(double));
        memcpy(products + first, product, (size_t)count * sizeof(double));
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

/* Rows of x added up, one behind the other, in the first. */
TASK_OF(add_up) {
    real *x = a[0];
    const int64_t columns = (int64_t)n[0], rows = (int64_t)n[1];
    for (int64_t row = 1; row < rows; row++) {
        SIMD
        for (int64_t k = begin; k < end; k++)
            x[k] += x[row * columns + k];
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
