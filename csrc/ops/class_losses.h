/* Losses of rows that have a number for each class: value and gradient. Each mirrors a function in
 * fastopt/losses.py. */

/* How many labels count, or minus infinity if one of them is none. */
TASK_OF(count_labels) {
    const int64_t *labels = a[0], classes = (int64_t)n[0], ignore_index = (int64_t)n[1];
    int64_t ignored = 0, wrong = 0;
    _Pragma("omp simd reduction(+ : ignored, wrong)")
    for (int64_t i = begin; i < end; i++) {
        const int64_t is_ignored = labels[i] == ignore_index;
        ignored += is_ignored;
        wrong += (labels[i] < 0 || labels[i] >= classes) & !is_ignored;
    }
    return wrong ? -__builtin_inf() : (double)(end - begin - ignored);
}

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

/* y = exp(x - most) times total / sum times factor, of at most sixteen rows; gives most and the sums. */
INLINE void NAME(scaled_softmax)(const real *x, int rows, real *y, int64_t columns, const double totals[LANES],
                                 real factor, real most[LANES], double sums[LANES]) {
    if (columns <= NARROW) {
        real tile[NARROW][LANES], scales[LANES];
        NAME(load_tile)(x, rows, columns, (int)columns, tile);
        NAME(narrow_exponentials)(tile, (int)columns, most, sums);
        SIMD
        for (int row = 0; row < LANES; row++)
            scales[row] = (real)(totals[row] / sums[row]) * factor;
        for (int k = 0; k < columns; k++) {
            SIMD
            for (int row = 0; row < LANES; row++)
                tile[k][row] *= scales[row];
        }
        NAME(store_tile)(tile, y, rows, columns, (int)columns);
        return;
    }
    for (int row = 0; row < rows; row++) {
        real *of_row = y + row * columns;
        most[row] = NAME(largest)(x + row * columns, columns);
        sums[row] = NAME(wide_exponentials)(x + row * columns, most[row], of_row, columns);
        const real scale = (real)(totals[row] / sums[row]) * factor;
        SIMD
        for (int64_t k = 0; k < columns; k++)
            of_row[k] *= scale;
    }
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
        for (int i = 0; i < rows; i++) { /* what is of x, whose place grad may take */
            const int64_t row = first + i;
            const real *of_row = x + row * columns;
            if (labels && labels[row] == ignore_index)
                continue;
            if (all_share) {
                const struct NAME(sums_of_shares) of_shares = NAME(add_shares)(
                    of_row, target ? target + row * columns : NULL, weight, columns, smoothing, spread);
                totals[i] = of_shares.total;
                products[i] = of_shares.product;
            }
            if (labels) {
                of_label[i] = (1 - smoothing) * (weight ? weight[labels[row]] : 1);
                at_label[i] = of_row[labels[row]];
                totals[i] += (double)of_label[i];
            }
        }
        NAME(scaled_softmax)(x + first * columns, rows, grad + first * columns, columns, totals, factor, most, sums);
        for (int i = 0; i < rows; i++)
            products[i] += of_label[i] != 0 ? (double)(of_label[i] * (at_label[i] - most[i])) : 0;
        SIMD
        for (int i = 0; i < LANES; i++)
            value[i] = totals[i] * logarithm_double(sums[i]) - products[i];
        for (int i = 0; i < rows; i++) {
            const int64_t row = first + i;
            real *of_row = grad + row * columns;
            if (labels && labels[row] == ignore_index) {
                memset(of_row, 0, (size_t)columns * sizeof(real));
                value[i] = 0;
            } else {
                const real *of_target = target ? target + row * columns : NULL;
                for (int64_t k = 0; all_share && k < columns; k++)
                    of_row[k] -= factor * NAME(share)(weight, of_target, smoothing, spread, k);
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
    const double ones[LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    if (form == SOFTMAX)
        for (int64_t first = 0; first < rows; first += LANES) {
            const int count = rows - first < LANES ? (int)(rows - first) : LANES;
            real most[LANES];
            double sums[LANES];
            NAME(scaled_softmax)(x + first * columns, count, p + first * columns, columns, ones, 1, most, sums);
        }
    else if (form == SIGMOID) {
        SIMD
        for (int64_t i = 0; i < rows * columns; i++)
            p[i] = NAME(sigmoid)(x[i]).of_one;
    } else if (p != x)
        memcpy(p, x, (size_t)(rows * columns) * sizeof(real));
}

/* q of some classes, from k on, of at most sixteen rows: whether it is the label, or what the target says. */
INLINE void NAME(load_truth)(const int64_t *labels, const real *target, int64_t row, int rows, int64_t columns,
                             int64_t first, int count, real tile[NARROW][LANES]) {
    int64_t label[LANES];
    if (!labels) {
        NAME(load_tile)(target + row * columns + first, rows, columns, count, tile);
        return;
    }
    for (int i = 0; i < LANES; i++)
        label[i] = i < rows ? labels[row + i] - first : -1;
    for (int k = 0; k < count; k++) {
        SIMD
        for (int i = 0; i < LANES; i++)
            tile[k][i] = label[i] == k ? 1 : 0;
    }
}

/* A piece has so many pixels of an image, or what is left of it; sums are three rows of classes for each piece. The
 * i-th pixel of a piece goes to lane i % 16. */
TASK_OF(dice_sums) {
    const real *x = a[0], *target = a[1];
    real *p = a[2];
    const int64_t *labels = a[3];
    double *sums = a[4];
    const int64_t columns = (int64_t)n[0], pixels = (int64_t)n[1], piece = (int64_t)n[2];
    const int64_t pieces = (pixels + piece - 1) / piece; /* of an image */
    for (int64_t i = begin; i < end; i++) {
        const int64_t within = i % pieces * piece, start = i / pieces * pixels + within;
        const int64_t stop = start + (pixels - within < piece ? pixels - within : piece);
        NAME(probabilities)(x + start * columns, p + start * columns, stop - start, columns, (int)n[3]);
        for (int64_t first = 0; first < columns; first += NARROW) {
            const int count = columns - first < NARROW ? (int)(columns - first) : NARROW;
            double lanes[3][NARROW][LANES];
            for (int j = 0; j < 3; j++)
                memset(lanes[j], 0, (size_t)count * sizeof lanes[j][0]);
            for (int64_t row = start; row < stop; row += LANES) {
                const int rows = stop - row < LANES ? (int)(stop - row) : LANES;
                real of_p[NARROW][LANES], of_q[NARROW][LANES];
                NAME(load_tile)(p + row * columns + first, rows, columns, count, of_p);
                NAME(load_truth)(labels, target, row, rows, columns, first, count, of_q);
                for (int k = 0; k < count; k++) {
                    SIMD
                    for (int lane = 0; lane < LANES; lane++) {
                        const double u = (double)of_p[k][lane], v = (double)of_q[k][lane];
                        lanes[0][k][lane] += u * v;
                        lanes[1][k][lane] += n[4] != 0 ? u * u : u;
                        lanes[2][k][lane] += n[4] != 0 ? v * v : v;
                    }
                }
            }
            for (int j = 0; j < 3; j++)
                for (int k = 0; k < count; k++)
                    sums[(3 * i + j) * columns + first + k] = fold(lanes[j][k]);
        }
    }
    return 0;
}

/* What the gradient is made of, of some classes of at most sixteen rows: p, and the slope with respect to it. Aligned,
 * for vectors across two cache lines take half as long again. */
struct NAME(slopes) {
    _Alignas(64) real p[NARROW][LANES];
    _Alignas(64) real slope[NARROW][LANES];
};
INLINE void NAME(load_slopes)(struct NAME(slopes) *s, void *const *a, int64_t row, int rows, int64_t columns,
                              int64_t first, int count, int64_t of_image, bool squared) {
    const real *of_truth = (const real *)a[2] + of_image + first, *rest = (const real *)a[3] + of_image + first;
    NAME(load_tile)((const real *)a[0] + row * columns + first, rows, columns, count, s->p);
    NAME(load_truth)(a[4], a[1], row, rows, columns, first, count, s->slope);
    for (int k = 0; k < count; k++) {
        SIMD
        for (int i = 0; i < LANES; i++)
            s->slope[k][i] = of_truth[k] * s->slope[k][i] + (squared ? rest[k] * s->p[k][i] : rest[k]);
    }
}

/* p becomes the gradient. That with respect to p is of_truth q + rest, rest times p where squared. */
TASK_OF(dice_gradient) {
    real *p = a[0];
    const int64_t columns = (int64_t)n[0], pixels = (int64_t)n[1];
    const int form = (int)n[3];
    struct NAME(slopes) s;
    for (int64_t row = begin, rows; row < end; row += rows) {
        const int64_t image = row / pixels, left = (image + 1) * pixels - row; /* of this image */
        const int64_t of_image = n[2] != 0 ? image * columns : 0;
        rows = end - row < LANES ? end - row : LANES;
        rows = left < rows ? left : rows;
        real product[LANES] = {0};
        for (int64_t first = 0; form == SOFTMAX && first < columns; first += NARROW) {
            const int count = columns - first < NARROW ? (int)(columns - first) : NARROW;
            NAME(load_slopes)(&s, a, row, (int)rows, columns, first, count, of_image, n[4] != 0);
            for (int k = 0; k < count; k++) {
                SIMD
                for (int i = 0; i < LANES; i++)
                    product[i] += s.p[k][i] * s.slope[k][i];
            }
        }
        for (int64_t first = 0; first < columns; first += NARROW) {
            const int count = columns - first < NARROW ? (int)(columns - first) : NARROW;
            if (form != SOFTMAX || columns > NARROW) /* else they are there */
                NAME(load_slopes)(&s, a, row, (int)rows, columns, first, count, of_image, n[4] != 0);
            for (int k = 0; k < count; k++) {
                SIMD
                for (int i = 0; i < LANES; i++) {
                    const real of_p = s.p[k][i], slope = s.slope[k][i];
                    s.slope[k][i] = form == SOFTMAX   ? of_p * (slope - product[i])
                                    : form == SIGMOID ? of_p * (1 - of_p) * slope
                                                      : slope;
                }
            }
            NAME(store_tile)(s.slope, p + row * columns + first, (int)rows, columns, count);
        }
    }
    return 0;
}
