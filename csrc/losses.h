/* Losses: value and gradient in one pass over memory. Each mirrors a function in fastopt/losses.py.
 *
 * A task gives the sum of its values, in double and of a fixed shape: the i-th of a range, or of a row, goes to lane
 * i % 16, and the lanes are folded by halves. */

#ifndef PIECE
#define PIECE 256 /* elements whose values wait in the first-level cache to be added up */
#endif

INLINE void NAME(add)(double lanes[LANES], const real *x, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        SIMD
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)x[i + lane];
    }
    for (int lane = 0; i < count; i++, lane++)
        lanes[lane] += (double)x[i];
}

/* Of elements ------------------------------------------------------------------------------------------------------ */

struct NAME(point) {
    real value, slope;
};
typedef struct NAME(point) NAME(loss)(real x, real target, real option);

INLINE real NAME(sign)(real x) { return x > 0 ? 1 : x < 0 ? -1 : x; }

INLINE struct NAME(point) NAME(squared)(real x, real target, real unused) {
    const real d = x - target;
    (void)unused;
    return (struct NAME(point)){d * d, 2 * d};
}

INLINE struct NAME(point) NAME(absolute)(real x, real target, real unused) {
    const real d = x - target;
    (void)unused;
    return (struct NAME(point)){NAME(magnitude)(d), NAME(sign)(d)};
}

/* Huber (1964): a parabola that goes on straight beyond delta. */
INLINE struct NAME(point) NAME(parabola_and_lines)(real x, real target, real delta) {
    const real d = x - target, size = NAME(magnitude)(d);
    const bool near = size <= delta;
    return (struct NAME(point)){near ? (real)0.5 * d * d : delta * (size - (real)0.5 * delta),
                                near ? d : delta * NAME(sign)(d)};
}

/* log(cosh(d)) = log(1 + (cosh(d) - 1)), and far from zero |d| + log(1 + exp(-2 |d|)) - log(2). */
INLINE struct NAME(point) NAME(log_of_cosh)(real x, real target, real unused) {
    const real d = x - target, size = NAME(magnitude)(d), log_2 = PICK(0x1.62e430p-1f, 0x1.62e42fefa39efp-1);
    const real once = NAME(exponential_minus_one)(-size), twice = NAME(exponential_minus_one)(-2 * size);
    const real near = NAME(logarithm_of_one_plus)(once * once / (2 * (1 + once)));
    const real far = size + (NAME(logarithm_of_one_plus)(1 + twice) - log_2);
    (void)unused;
    return (struct NAME(point)){size < 1 ? near : far, (0 - twice) / (2 + twice) * NAME(sign)(d)};
}

/* From logits: (1 - t) log(1 + e^x) + w t log(1 + e^-x). A term whose factor is zero is left out: x may be infinite. */
INLINE struct NAME(point) NAME(logistic)(real x, real target, real pos_weight) {
    const real e = NAME(exponential)(-NAME(magnitude)(x)), rest = NAME(logarithm_of_one_plus)(e);
    const real larger = 1 / (1 + e), smaller = e / (1 + e), negative = 1 - target, positive = pos_weight * target;
    const real of_negative = negative * ((x > 0 ? x : 0) + rest), of_positive = positive * ((x < 0 ? -x : 0) + rest);
    return (struct NAME(point)){
        (negative != 0 ? of_negative : 0) + (positive != 0 ? of_positive : 0),
        negative * (x >= 0 ? larger : smaller) - positive * (x >= 0 ? smaller : larger),
    };
}

/* One option for all elements, or for each of some columns. */
INLINE double NAME(each)(NAME(loss) *loss, void *const *a, real factor, real option, const real *of_columns,
                         int64_t columns, int64_t begin, int64_t end) {
    const real *x = a[0], *target = a[1];
    real *grad = a[2], *values = a[3];
    double lanes[LANES] = {0};
    for (int64_t i = begin; i < end; i += PIECE) {
        const int count = end - i < PIECE ? (int)(end - i) : PIECE;
        real piece[PIECE], options[PIECE];
        for (int k = 0; of_columns && k < count; k++)
            options[k] = of_columns[(i + k) % columns];
        SIMD
        for (int k = 0; k < count; k++) {
            const struct NAME(point) p = loss(x[i + k], target[i + k], of_columns ? options[k] : option);
            piece[k] = p.value;
            grad[i + k] = factor * p.slope;
        }
        NAME(add)(lanes, piece, count);
        if (values)
            memcpy(values + i, piece, (size_t)count * sizeof(real));
    }
    return fold(lanes);
}

TASK_OF(mse) { return NAME(each)(NAME(squared), a, (real)n[0], 0, NULL, 1, begin, end); }
TASK_OF(mae) { return NAME(each)(NAME(absolute), a, (real)n[0], 0, NULL, 1, begin, end); }
TASK_OF(huber) { return NAME(each)(NAME(parabola_and_lines), a, (real)n[0], (real)n[1], NULL, 1, begin, end); }
TASK_OF(log_cosh) { return NAME(each)(NAME(log_of_cosh), a, (real)n[0], 0, NULL, 1, begin, end); }
TASK_OF(binary_cross_entropy) {
    if (a[4])
        return NAME(each)(NAME(logistic), a, (real)n[0], 1, a[4], (int64_t)n[1], begin, end);
    return NAME(each)(NAME(logistic), a, (real)n[0], 1, NULL, 1, begin, end);
}

/* Of rows ---------------------------------------------------------------------------------------------------------- */

/* Sixteen at a time: what is left of a short row is filled up, so that it takes one vector and not fifteen numbers. */
INLINE void NAME(fill_up)(real piece[LANES], const real *x, int64_t count, real filling) {
    for (int lane = 0; lane < LANES; lane++)
        piece[lane] = lane < count ? x[lane] : filling;
}

INLINE void NAME(take_larger)(real lanes[LANES], const real *x) {
    SIMD
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = x[lane] > lanes[lane] ? x[lane] : lanes[lane];
}

INLINE real NAME(largest)(const real *x, int64_t count) {
    real lanes[LANES], rest[LANES], most = x[0];
    int64_t i = 0;
    NAME(fill_up)(lanes, x, 0, x[0]);
    for (; i + LANES <= count; i += LANES)
        NAME(take_larger)(lanes, x + i);
    NAME(fill_up)(rest, x + i, count - i, x[0]);
    NAME(take_larger)(lanes, rest);
    for (int lane = 0; lane < LANES; lane++)
        most = lanes[lane] > most ? lanes[lane] : most;
    return most;
}

INLINE void NAME(add_exponentials)(double lanes[LANES], const real *x, real most, real *y) {
    SIMD
    for (int lane = 0; lane < LANES; lane++) {
        const real e = NAME(exponential)(x[lane] - most);
        y[lane] = e;
        lanes[lane] += (double)e;
    }
}

/* exp(x - most) to y, which may be x; gives the sum. */
INLINE double NAME(exponentials)(const real *x, real most, real *y, int64_t count) {
    double lanes[LANES] = {0};
    real rest[LANES];
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        NAME(add_exponentials)(lanes, x + i, most, y + i);
    if (i < count) {
        NAME(fill_up)(rest, x + i, count - i, -PICK(__builtin_inff(), __builtin_inf())); /* exp: 0 */
        NAME(add_exponentials)(lanes, rest, most, rest);
        memcpy(y + i, rest, (size_t)(count - i) * sizeof(real));
    }
    return fold(lanes);
}

/* What a class has of a row's target, without the label: w ((1 - s) q + s / columns). */
INLINE real NAME(share)(const real *weight, const real *target, real smoothing, real spread, int64_t k) {
    return (weight ? weight[k] : 1) * (target ? (1 - smoothing) * target[k] + spread : spread);
}

/* -sum of t log(softmax(x)), where t is the share of each class, and at the label w (1 - s) more. With T the sum of t:
 * value = T log(sum of exp(x - most)) - sum of t (x - most), gradient = T softmax(x) - t. */
INLINE double NAME(cross_entropy_row)(const real *x, const real *target, int64_t label, const real *weight, real *grad,
                                      int64_t columns, real smoothing, real factor) {
    const real most = NAME(largest)(x, columns), spread = smoothing / (real)columns;
    const real of_label = target ? 0 : (1 - smoothing) * (weight ? weight[label] : 1);
    const bool all_share = target || smoothing != 0;
    double totals[LANES] = {0}, products[LANES] = {0}; /* of t, and of t (x - most) */
    for (int64_t i = 0; all_share && i < columns; i += PIECE) {
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
    const double total = fold(totals) + (double)of_label;
    const double product = fold(products) + (of_label != 0 ? (double)(of_label * (x[label] - most)) : 0);
    const double sum = NAME(exponentials)(x, most, grad, columns);
    const real scale = (real)(total / sum) * factor;
    SIMD
    for (int64_t k = 0; k < columns; k++)
        grad[k] = scale * grad[k];
    if (all_share) {
        SIMD
        for (int64_t k = 0; k < columns; k++)
            grad[k] -= factor * NAME(share)(weight, target, smoothing, spread, k);
    }
    if (!target)
        grad[label] -= factor * of_label;
    return total * logarithm_double(sum) - product;
}

/* Rows with the label ignore_index count nothing. */
TASK_OF(cross_entropy) {
    const real *x = a[0], *target = a[1], *weight = a[5], factor = (real)n[0], smoothing = (real)n[2];
    const int64_t *labels = a[4], columns = (int64_t)n[1], ignore_index = (int64_t)n[3];
    real *grad = a[2], *values = a[3];
    double sum = 0;
    for (int64_t row = begin; row < end; row++) {
        const int64_t first = row * columns, label = labels ? labels[row] : 0;
        double value = 0;
        if (labels && label == ignore_index)
            memset(grad + first, 0, (size_t)columns * sizeof(real));
        else
            value = NAME(cross_entropy_row)(x + first, target ? target + first : NULL, label, weight, grad + first,
                                            columns, smoothing, factor);
        sum += value;
        if (values)
            values[row] = (real)value;
    }
    return sum;
}
