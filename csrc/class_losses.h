/* Losses of rows that have a number for each class: value and gradient. Each mirrors a function in fastopt/losses.py. */

/* Cross entropy ---------------------------------------------------------------------------------------------------- */

/* What a class has of a row's target, without the label: w ((1 - s) q + s / columns). */
INLINE real NAME(share)(const real *weight, const real *target, real smoothing, real spread, int64_t k) {
    return (weight ? weight[k] : 1) * (target ? (1 - smoothing) * target[k] + spread : spread);
}

/* Of a row's shares t the sum, and the sum of t (x - most). */
struct NAME(sums_of_shares) {
    double total, product;
};
INLINE struct NAME(sums_of_shares) NAME(add_shares)(const real *x, const real *target, const real *weight,
                                                    int64_t columns, real smoothing, real spread) {
    const real most = NAME(largest)(x, columns);
    double totals[LANES] = {0}, products[LANES] = {0};
    for (int64_t i = 0; i < columns; i += PIECE) {
        const int count = columns - i < PIECE ? (int)(columns - i) : PIECE;
        real shares[PIECE], piece[PIECE];
        SIMD
        for (int k = 0; k < count; k++) {
            const real t = NAME(share)(weight, target, smoothing, spread, i + k);
            shares[k] = t;
            piece[k] = t != 0 ? t * (x[i + k] - most) : 0;
        }
        NAME(add)(totals, shares, count);
        NAME(add)(products, piece, count);
    }
    return (struct NAME(sums_of_shares)){fold(totals), fold(products)};
}

/* -sum of t log(softmax(x)), where t is the share of each class, and at the label w (1 - s) more. With T the sum of t:
 * value = T log(sum of exp(x - most)) - sum of t (x - most), gradient = T softmax(x) - t.
 * Rows with the label ignore_index count nothing. */
TASK_OF(cross_entropy) {
    const real *x = a[0], *target = a[1], *weight = a[5], factor = (real)n[0], smoothing = (real)n[2];
    const int64_t *labels = a[4], columns = (int64_t)n[1], ignore_index = (int64_t)n[3];
    const real spread = smoothing / (real)columns;
    const bool all_share = target || smoothing != 0;
    real *grad = a[2], *values = a[3];
    double sum = 0;
    for (int64_t first = begin; first < end; first += LANES) {
        const int rows = end - first < LANES ? (int)(end - first) : LANES;
        real most[LANES], of_label[LANES] = {0}, at_label[LANES] = {0};
        double sums[LANES] = {0}, totals[LANES] = {0}, products[LANES] = {0}, value[LANES];
        bool counts[LANES];
        for (int i = 0; i < rows; i++) { /* what is of x, whose place grad may take */
            const int64_t row = first + i, label = labels ? labels[row] : 0;
            const real *of_row = x + row * columns;
            counts[i] = !labels || label != ignore_index;
            if (!counts[i])
                continue;
            if (all_share) {
                const struct NAME(sums_of_shares) of_shares =
                    NAME(add_shares)(of_row, target ? target + row * columns : NULL, weight, columns, smoothing, spread);
                totals[i] = of_shares.total;
                products[i] = of_shares.product;
            }
            if (labels) {
                of_label[i] = (1 - smoothing) * (weight ? weight[label] : 1);
                at_label[i] = of_row[label];
            }
        }
        NAME(exponentials)(x + first * columns, rows, grad + first * columns, columns, most, sums);
        for (int i = 0; i < rows; i++) {
            totals[i] += (double)of_label[i];
            products[i] += of_label[i] != 0 ? (double)(of_label[i] * (at_label[i] - most[i])) : 0;
        }
        SIMD
        for (int i = 0; i < LANES; i++)
            value[i] = totals[i] * logarithm_double(sums[i]) - products[i];
        for (int i = 0; i < rows; i++) {
            const int64_t row = first + i;
            real *of_row = grad + row * columns;
            if (!counts[i]) {
                memset(of_row, 0, (size_t)columns * sizeof(real));
                value[i] = 0;
            } else {
                NAME(multiply)(of_row, (real)(totals[i] / sums[i]) * factor, columns);
                for (int64_t k = 0; all_share && k < columns; k++)
                    of_row[k] -= factor * NAME(share)(weight, target ? target + row * columns : NULL, smoothing, spread, k);
                if (labels)
                    of_row[labels[row]] -= factor * of_label[i];
            }
            sum += value[i];
            if (values)
                values[row] = (real)value[i];
        }
    }
    return sum;
}

/* Dice ------------------------------------------------------------------------------------------------------------- */

#ifndef FORMS
#define FORMS
enum { AS_GIVEN, SOFTMAX, SIGMOID }; /* what p is of x; numbered as in fastopt/losses.py */
#endif

INLINE void NAME(probabilities)(const real *x, real *p, int64_t rows, int64_t columns, int form) {
    if (form == SOFTMAX)
        for (int64_t first = 0; first < rows; first += LANES) {
            const int count = rows - first < LANES ? (int)(rows - first) : LANES;
            real most[LANES];
            double sums[LANES];
            NAME(exponentials)(x + first * columns, count, p + first * columns, columns, most, sums);
            for (int i = 0; i < count; i++)
                NAME(multiply)(p + (first + i) * columns, (real)(1 / sums[i]), columns);
        }
    else if (form == SIGMOID) {
        SIMD
        for (int64_t i = 0; i < rows * columns; i++) {
            const real e = NAME(exponential)(-NAME(magnitude)(x[i])), larger = 1 / (1 + e), smaller = e / (1 + e);
            p[i] = x[i] >= 0 ? larger : x[i] < 0 ? smaller : x[i];
        }
    } else if (p != x)
        memcpy(p, x, (size_t)(rows * columns) * sizeof(real));
}

/* q of a class: whether it is the label, or what the target says. */
INLINE real NAME(truth)(const int64_t *labels, const real *target, int64_t row, int64_t columns, int64_t k) {
    return labels ? (labels[row] == k ? 1 : 0) : target[row * columns + k];
}

INLINE void NAME(add_class)(const real *p, const int64_t *labels, const real *target, int64_t columns, int64_t k,
                            bool squared, int64_t begin, int64_t end, double *sums) {
    double both[LANES] = {0}, predicted[LANES] = {0}, wanted[LANES] = {0};
    for (int64_t first = begin; first < end; first += LANES) {
        const int count = end - first < LANES ? (int)(end - first) : LANES;
        real of_p[LANES] = {0}, of_q[LANES] = {0};
        for (int i = 0; i < count; i++) {
            of_p[i] = p[(first + i) * columns + k];
            of_q[i] = NAME(truth)(labels, target, first + i, columns, k);
        }
        SIMD
        for (int i = 0; i < LANES; i++) {
            const double u = (double)of_p[i], v = (double)of_q[i];
            both[i] += u * v;
            predicted[i] += squared ? u * u : u;
            wanted[i] += squared ? v * v : v;
        }
    }
    sums[0] = fold(both);
    sums[columns] = fold(predicted);
    sums[2 * columns] = fold(wanted);
}

/* A piece has so many pixels of an image, or what is left of it; sums are three rows of classes for each piece. */
TASK_OF(dice_sums) {
    const real *x = a[0], *target = a[1];
    real *p = a[2];
    const int64_t *labels = a[3];
    double *sums = a[4];
    const int64_t columns = (int64_t)n[0], pixels = (int64_t)n[1], piece = (int64_t)n[2];
    const int64_t pieces = (pixels + piece - 1) / piece; /* of an image */
    for (int64_t i = begin; i < end; i++) {
        const int64_t within = i % pieces * piece, first = i / pieces * pixels + within;
        const int64_t rows = pixels - within < piece ? pixels - within : piece;
        NAME(probabilities)(x + first * columns, p + first * columns, rows, columns, (int)n[3]);
        for (int64_t k = 0; k < columns; k++)
            NAME(add_class)(p, labels, target, columns, k, n[4] != 0, first, first + rows, sums + 3 * i * columns + k);
    }
    return 0;
}

/* p becomes the gradient. That with respect to p is of_truth q + rest, rest times p where squared. */
TASK_OF(dice_gradient) {
    real *p = a[0];
    const real *target = a[1], *of_truth = a[2], *rest = a[3];
    const int64_t *labels = a[4];
    const int64_t columns = (int64_t)n[0], pixels = (int64_t)n[1];
    const bool per_image = n[2] != 0, squared = n[4] != 0;
    const int form = (int)n[3];
    for (int64_t row = begin; row < end; row++) {
        const int64_t of_image = per_image ? row / pixels * columns : 0;
        real *of_row = p + row * columns, product = 0;
        for (int64_t k = 0; k < columns; k++) {
            const real slope = of_truth[of_image + k] * NAME(truth)(labels, target, row, columns, k) +
                               rest[of_image + k] * (squared ? of_row[k] : 1);
            product += of_row[k] * slope;
        }
        for (int64_t k = 0; k < columns; k++) {
            const real slope = of_truth[of_image + k] * NAME(truth)(labels, target, row, columns, k) +
                               rest[of_image + k] * (squared ? of_row[k] : 1);
            of_row[k] = form == SOFTMAX   ? of_row[k] * (slope - product)
                        : form == SIGMOID ? of_row[k] * (1 - of_row[k]) * slope
                                          : slope;
        }
    }
    return 0;
}
