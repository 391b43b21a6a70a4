/* Elementwise losses, value and gradient in one pass. Mirrors fastopt/losses/_regression.py and _classification.py. */
#ifndef FASTOPT_LOSSES_H
#define FASTOPT_LOSSES_H
#include "../math/exp_log.h"
#include "../math/reduce.h"
#include "op.h"
#include "targets.h"
#define UNUSED __attribute__((unused))
#define LOSS_OF(loss) \
    INLINE struct NAME(loss_grad) NAME(loss##_loss)(real x, real target, UNUSED struct NAME(loss_options) options)
#define TEMPLATE "ops/losses.h"
#include "../for_each_real.h"
#elif defined(real)

struct NAME(loss_grad) {
    real loss, grad;
};
struct NAME(loss_options) {
    real delta, pos_weight, gamma, alpha;
};
typedef struct NAME(loss_grad) NAME(loss_function)(real x, real target, struct NAME(loss_options) options);

INLINE real NAME(sign)(real x) { return x > 0 ? 1 : x < 0 ? -1 : x + 0; } /* the sign of -0 is 0 */

LOSS_OF(mse) {
    const real d = x - target;
    return (struct NAME(loss_grad)){d * d, 2 * d};
}

LOSS_OF(mae) {
    const real d = x - target;
    return (struct NAME(loss_grad)){NAME(fabs)(d), NAME(sign)(d)};
}

/* Huber (1964): a parabola, continued by straight lines beyond delta. */
LOSS_OF(huber) {
    const real delta = options.delta, d = x - target, distance = NAME(fabs)(d);
    const bool near = distance <= delta;
    return (struct NAME(loss_grad)){near ? (real)0.5 * d * d : delta * (distance - (real)0.5 * delta),
                                    near ? d : delta * NAME(sign)(d)};
}

/* log(cosh(d)) = log(1 + (cosh(d) - 1)), and far from zero |d| + log(1 + exp(-2 |d|)) - log(2). */
LOSS_OF(log_cosh) {
    const real d = x - target, distance = NAME(fabs)(d), log_2 = PICK(0x1.62e430p-1f, 0x1.62e42fefa39efp-1);
    const real once = NAME(expm1)(-distance), twice = NAME(expm1)(-2 * distance);
    const real near = NAME(log1p)(once * once / (2 * (1 + once)));
    const real far = distance + (NAME(log1p)(1 + twice) - log_2);
    return (struct NAME(loss_grad)){distance < 1 ? near : far, (0 - twice) / (2 + twice) * NAME(sign)(d)};
}

/* From logits: (1 - t) log(1 + e^x) + w t log(1 + e^-x). A term whose factor is zero is left out, because x may be
 * infinite. */
LOSS_OF(binary_cross_entropy) {
    const real rest = NAME(log1p)(NAME(exp)(-NAME(fabs)(x)));
    const real negative = 1 - target, positive = options.pos_weight * target;
    const real negative_loss = negative * ((x > 0 ? x : 0) + rest);
    const real positive_loss = positive * ((x < 0 ? -x : 0) + rest);
    const struct NAME(sigmoid_pair) sigmoid = NAME(sigmoid_pair)(x);
    return (struct NAME(loss_grad)){
        (negative != 0 ? negative_loss : 0) + (positive != 0 ? positive_loss : 0),
        negative * sigmoid.p - positive * sigmoid.q,
    };
}

/* Lin et al. (2017), from logits: a u^gamma times the cross entropy. u is the probability of the wrong class; a is
 * alpha for positive and 1 - alpha for negative targets, or 1 if alpha < 0. */
LOSS_OF(focal) {
    const real gamma = options.gamma, alpha = options.alpha;
    options.pos_weight = 1;
    const struct NAME(loss_grad) entropy = NAME(binary_cross_entropy_loss)(x, target, options);
    const struct NAME(sigmoid_pair) sigmoid = NAME(sigmoid_pair)(x);
    const real negative = 1 - target, wrong = sigmoid.p * negative + sigmoid.q * target, pq = sigmoid.p * sigmoid.q;
    const real power = gamma != 0 ? NAME(exp)(gamma * NAME(log)(wrong)) : 1;
    const real balance = alpha >= 0 ? alpha * target + (1 - alpha) * negative : 1;
    const real power_grad = pq > 0 ? gamma * entropy.loss * (pq * (negative - target) / wrong) : 0;
    return (struct NAME(loss_grad)){
        power != 0 ? balance * power * entropy.loss : 0,
        power != 0 ? balance * power * (entropy.grad + power_grad) : 0,
    };
}

/* Return the sum of the losses of elements [begin, end). pos_weight has a weight per column, or is NULL. */
INLINE double NAME(elementwise_loss)(NAME(loss_function) *loss, struct NAME(loss_options) options,
                                     const real *pos_weight, int64_t columns, const real *x, const real *target,
                                     real *grad, real *values, real factor, int64_t begin, int64_t end) {
    double lanes[LANES] = {0};
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int count = end - i < BLOCK ? (int)(end - i) : BLOCK;
        real losses[BLOCK], weights[BLOCK];
        for (int k = 0; pos_weight && k < count; k++)
            weights[k] = pos_weight[(i + k) % columns];
        SIMD
        for (int k = 0; k < count; k++) {
            struct NAME(loss_options) element_options = options;
            if (pos_weight)
                element_options.pos_weight = weights[k];
            const struct NAME(loss_grad) result = loss(x[i + k], target[i + k], element_options);
            losses[k] = result.loss;
            grad[i + k] = factor * result.grad;
        }
        NAME(add_to_lanes)(lanes, losses, count);
        if (values)
            memcpy(values + i, losses, (size_t)count * sizeof(real));
    }
    return fold(lanes);
}

#define ELEMENTWISE_LOSS(loss, pos_weight, columns, ...) \
    NAME(elementwise_loss)(NAME(loss##_loss), (struct NAME(loss_options)){__VA_ARGS__}, pos_weight, columns, \
                           a.x, a.target, a.grad, a.values, (real)a.factor, begin, end)
OP_OF(mse) { return ELEMENTWISE_LOSS(mse, NULL, 1, 0); }
OP_OF(mae) { return ELEMENTWISE_LOSS(mae, NULL, 1, 0); }
OP_OF(huber) { return ELEMENTWISE_LOSS(huber, NULL, 1, .delta = (real)a.delta); }
OP_OF(log_cosh) { return ELEMENTWISE_LOSS(log_cosh, NULL, 1, 0); }

OP_OF(focal) {
    const double sum = ELEMENTWISE_LOSS(focal, NULL, 1, .gamma = (real)a.gamma, .alpha = (real)a.alpha);
    return NAME(sum_or_outside)(sum, a.target, begin, end);
}
OP_OF(binary_cross_entropy) {
    const double sum = a.pos_weight ? ELEMENTWISE_LOSS(binary_cross_entropy, a.pos_weight, a.columns, 0)
                                    : ELEMENTWISE_LOSS(binary_cross_entropy, NULL, 1, .pos_weight = 1);
    return NAME(sum_or_outside)(sum, a.target, begin, end);
}
#undef ELEMENTWISE_LOSS

#endif
