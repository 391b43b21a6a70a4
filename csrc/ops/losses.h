/* Losses of elements: value and gradient in one pass over memory. Each mirrors a function in fastopt/losses.py.
 *
 * A task gives the sum of its values, in double and of a fixed shape: the i-th of a range, or of a row, goes to lane
 * i % 16, and the lanes are folded by halves. */

#ifndef PIECE
#define PIECE 256 /* elements whose values wait in the first-level cache to be added up */
#define UNUSED __attribute__((unused))
#define LOSS_OF(loss) INLINE struct NAME(point) NAME(loss)(real x, real target, UNUSED real first, UNUSED real second)
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

struct NAME(point) {
    real value, slope;
};
typedef struct NAME(point) NAME(loss)(real x, real target, real first, real second);

INLINE real NAME(sign)(real x) { return x > 0 ? 1 : x < 0 ? -1 : x + 0; } /* of -0 it is 0 */

LOSS_OF(squared) {
    const real d = x - target;
    return (struct NAME(point)){d * d, 2 * d};
}

LOSS_OF(absolute) {
    const real d = x - target;
    return (struct NAME(point)){NAME(magnitude)(d), NAME(sign)(d)};
}

/* Huber (1964): a parabola that goes on straight beyond delta. */
LOSS_OF(parabola_and_lines) {
    const real delta = first, d = x - target, size = NAME(magnitude)(d);
    const bool near = size <= delta;
    return (struct NAME(point)){near ? (real)0.5 * d * d : delta * (size - (real)0.5 * delta),
                                near ? d : delta * NAME(sign)(d)};
}

/* log(cosh(d)) = log(1 + (cosh(d) - 1)), and far from zero |d| + log(1 + exp(-2 |d|)) - log(2). */
LOSS_OF(log_of_cosh) {
    const real d = x - target, size = NAME(magnitude)(d), log_2 = PICK(0x1.62e430p-1f, 0x1.62e42fefa39efp-1);
    const real once = NAME(exponential_minus_one)(-size), twice = NAME(exponential_minus_one)(-2 * size);
    const real near = NAME(logarithm_of_one_plus)(once * once / (2 * (1 + once)));
    const real far = size + (NAME(logarithm_of_one_plus)(1 + twice) - log_2);
    return (struct NAME(point)){size < 1 ? near : far, (0 - twice) / (2 + twice) * NAME(sign)(d)};
}

/* The probability that a logit stands for, and that of the other class, without a difference from 1. */
struct NAME(chances) {
    real of_one, of_zero;
};
INLINE struct NAME(chances) NAME(sigmoid)(real x) {
    const real e = NAME(exponential)(-NAME(magnitude)(x)), larger = 1 / (1 + e), smaller = e / (1 + e);
    return (struct NAME(chances)){x >= 0 ? larger : smaller, x >= 0 ? smaller : larger};
}

/* From logits: (1 - t) log(1 + e^x) + w t log(1 + e^-x), w the first option. A term whose factor is zero is left out: x
 * may be infinite. */
LOSS_OF(logistic) {
    const real rest = NAME(logarithm_of_one_plus)(NAME(exponential)(-NAME(magnitude)(x)));
    const real negative = 1 - target, positive = first * target;
    const real of_negative = negative * ((x > 0 ? x : 0) + rest), of_positive = positive * ((x < 0 ? -x : 0) + rest);
    const struct NAME(chances) p = NAME(sigmoid)(x);
    return (struct NAME(point)){
        (negative != 0 ? of_negative : 0) + (positive != 0 ? of_positive : 0),
        negative * p.of_one - positive * p.of_zero,
    };
}

/* Lin et al. (2017): a u^gamma times the cross entropy, u the probability of being wrong and a = alpha for positive,
 * 1 - alpha for negative targets, or 1 where alpha is below zero. From logits; first is gamma, second alpha. */
LOSS_OF(focal) {
    const struct NAME(point) entropy = NAME(logistic)(x, target, 1, 0);
    const struct NAME(chances) p = NAME(sigmoid)(x);
    const real negative = 1 - target, wrong = p.of_one * negative + p.of_zero * target, spread = p.of_one * p.of_zero;
    const real power = first != 0 ? NAME(exponential)(first * NAME(logarithm)(wrong)) : 1;
    const real balance = second >= 0 ? second * target + (1 - second) * negative : 1;
    const real turn = spread > 0 ? first * entropy.value * (spread * (negative - target) / wrong) : 0;
    return (struct NAME(point)){
        power != 0 ? balance * power * entropy.value : 0,
        power != 0 ? balance * power * (entropy.slope + turn) : 0,
    };
}

/* Options for all elements, or the first for each of some columns. */
INLINE double NAME(each)(NAME(loss) *loss, void *const *a, real factor, real first, real second, const real *of_columns,
                         int64_t columns, int64_t begin, int64_t end) {
    const real *x = a[0], *target = a[1];
    real *grad = a[2], *values = a[3];
    double lanes[LANES] = {0};
    for (int64_t i = begin; i < end; i += PIECE) {
        const int count = end - i < PIECE ? (int)(end - i) : PIECE;
        real piece[PIECE], firsts[PIECE];
        for (int k = 0; of_columns && k < count; k++)
            firsts[k] = of_columns[(i + k) % columns];
        SIMD
        for (int k = 0; k < count; k++) {
            const struct NAME(point) p = loss(x[i + k], target[i + k], of_columns ? firsts[k] : first, second);
            piece[k] = p.value;
            grad[i + k] = factor * p.slope;
        }
        NAME(add)(lanes, piece, count);
        if (values)
            memcpy(values + i, piece, (size_t)count * sizeof(real));
    }
    return fold(lanes);
}

#define EACH(loss, first, second) return NAME(each)(NAME(loss), a, (real)n[0], first, second, NULL, 1, begin, end)
TASK_OF(mse) { EACH(squared, 0, 0); }
TASK_OF(mae) { EACH(absolute, 0, 0); }
TASK_OF(huber) { EACH(parabola_and_lines, (real)n[1], 0); }
TASK_OF(log_cosh) { EACH(log_of_cosh, 0, 0); }
TASK_OF(focal) { EACH(focal, (real)n[1], (real)n[2]); }
TASK_OF(binary_cross_entropy) {
    if (a[4])
        return NAME(each)(NAME(logistic), a, (real)n[0], 1, 0, a[4], (int64_t)n[1], begin, end);
    EACH(logistic, 1, 0);
}
#undef EACH
