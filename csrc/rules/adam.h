/* Adam, AMSGrad and AdamW. Mirrors fastopt/optimizers/adam.py and fastopt/reference/adam.py. */
#ifndef FASTOPT_ADAM_H
#define FASTOPT_ADAM_H
#include "rule.h"

/* With eps_hat, eps is added before the bias corrections, so step_size includes both. */
COEFFICIENTS_OF(adam) {
    const double bias1 = 1 - power(h->beta1, step), sqrt_bias2 = sqrt_double(1 - power(h->beta2, step));
    c->beta1 = h->beta1;
    c->one_minus_beta1 = 1 - h->beta1;
    c->beta2 = h->beta2;
    c->one_minus_beta2 = 1 - h->beta2;
    c->step_size = h->eps_hat != 0 ? h->lr * sqrt_bias2 / bias1 : h->lr / bias1;
    c->inv_sqrt_bias2 = h->eps_hat != 0 ? 1 : 1 / sqrt_bias2;
    c->eps = h->eps;
    return h->lr;
}

#define TEMPLATE "rules/adam.h"
#include "../for_each_real.h"
#elif defined(real)

/* Kingma & Ba (2015); amsgrad: Reddi et al. (2018); with param_decay below 1, AdamW: Loshchilov & Hutter (2019).
 * The bias corrections are in step_size and inv_sqrt_bias2. */
RULE_OF(adam)(real *param, const real *grad, real *exp_avg, real *exp_avg_sq, real *max_exp_avg_sq,
              const bool amsgrad, const bool flush, COEFFICIENTS(adam) c, int64_t begin, int64_t end) {
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(flush_to_square)(NAME(add_scaled)(c.scale * grad[i], c.l2, param[i]));
        const real m = NAME(flush_to_scale)(flush, c.beta1 * exp_avg[i] + c.one_minus_beta1 * g);
        exp_avg[i] = m;
        real v = NAME(flush)(flush, c.beta2 * exp_avg_sq[i] + c.one_minus_beta2 * g * g);
        exp_avg_sq[i] = v;
        if (amsgrad) {
            v = max_exp_avg_sq[i] > v ? max_exp_avg_sq[i] : v;
            max_exp_avg_sq[i] = v;
        }
        const real denominator = c.inv_sqrt_bias2 * NAME(sqrt)(v) + c.eps;
        param[i] = NAME(decayed)(flush, c.param_decay, param[i]) - c.step_size * m / denominator;
    }
}

KERNEL_OF(adam, adam, o[0], o[1], o[2], o[3], NULL, false)
KERNEL_OF(amsgrad, adam, o[0], o[1], o[2], o[3], o[4], true)

#endif
