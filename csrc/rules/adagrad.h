/* Adagrad. Mirrors fastopt/optimizers/adagrad.py and fastopt/reference/adagrad.py. */
#ifndef FASTOPT_ADAGRAD_H
#define FASTOPT_ADAGRAD_H
#include "rule.h"

COEFFICIENTS_OF(adagrad) {
    c->eps = h->eps;
    return c->step_size = h->lr / (1 + (double)(step - 1) * h->lr_decay);
}

#define TEMPLATE "rules/adagrad.h"
#include "../for_each_real.h"
#elif defined(real)

/* Duchi, Hazan & Singer (2011). The sum does not decay, so it needs no flush. */
RULE_OF(adagrad)(real *param, const real *grad, real *sum, const bool flush, COEFFICIENTS(adagrad) c, int64_t begin,
                 int64_t end) {
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(flush_to_square)(NAME(add_scaled)(c.scale * grad[i], c.l2, param[i]));
        const real s = sum[i] + g * g;
        sum[i] = s;
        param[i] = NAME(decayed)(flush, c.param_decay, param[i]) - c.step_size * g / (NAME(sqrt)(s) + c.eps);
    }
}

KERNEL_OF(adagrad, adagrad, o[0], o[1], o[2])

#endif
