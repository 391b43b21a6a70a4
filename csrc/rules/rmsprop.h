/* RMSprop. Mirrors fastopt/optimizers/rmsprop.py and fastopt/reference/rmsprop.py. */
#ifndef FASTOPT_RMSPROP_H
#define FASTOPT_RMSPROP_H
#include "rule.h"

COEFFICIENTS_OF(rmsprop) {
    c->alpha = h->alpha;
    c->one_minus_alpha = 1 - h->alpha;
    c->eps_root = h->eps_inside_sqrt != 0 ? h->eps : 0;
    c->eps = h->eps_inside_sqrt != 0 ? 0 : h->eps;
    c->momentum = h->momentum;
    return c->step_size = h->lr;
}

#define TEMPLATE "rules/rmsprop.h"
#include "../for_each_real.h"
#elif defined(real)

/* Tieleman & Hinton (2012); centered: Graves (2013). */
RULE_OF(rmsprop)(real *param, const real *grad, real *square_avg, real *grad_avg, real *momentum_buffer,
                 const bool centered, const bool momentum, const bool flush, COEFFICIENTS(rmsprop) c, int64_t begin,
                 int64_t end) {
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(flush_to_square)(NAME(add_scaled)(c.scale * grad[i], c.l2, param[i]));
        real v = NAME(flush)(flush, c.alpha * square_avg[i] + c.one_minus_alpha * g * g);
        square_avg[i] = v;
        if (centered) {
            const real mean = NAME(flush_to_square)(c.alpha * grad_avg[i] + c.one_minus_alpha * g);
            grad_avg[i] = mean;
            v = v - mean * mean;
            v = v < 0 ? 0 : v;
        }
        real direction = g / (NAME(sqrt)(v + c.eps_root) + c.eps);
        if (momentum) {
            direction = NAME(flush_to_scale)(flush, c.momentum * momentum_buffer[i] + direction);
            momentum_buffer[i] = direction;
        }
        param[i] = NAME(decayed)(flush, c.param_decay, param[i]) - c.step_size * direction;
    }
}

KERNEL_OF(rmsprop, rmsprop, o[0], o[1], o[2], NULL, NULL, false, false)
KERNEL_OF(rmsprop_centered, rmsprop, o[0], o[1], o[2], o[3], NULL, true, false)
KERNEL_OF(rmsprop_momentum, rmsprop, o[0], o[1], o[2], NULL, o[3], false, true)
KERNEL_OF(rmsprop_centered_momentum, rmsprop, o[0], o[1], o[2], o[3], o[4], true, true)

#endif
