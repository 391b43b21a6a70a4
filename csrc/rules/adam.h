/* Adam, AMSGrad and AdamW. Mirrors fastopt/optimizers/adam.py and fastopt/reference/adam.py. */

/* Kingma & Ba (2015); amsgrad: Reddi et al. (2018); shrink below 1 makes it AdamW: Loshchilov & Hutter (2019).
 * The bias corrections are in rate = lr / (1 - beta1^t) and root = 1 / sqrt(1 - beta2^t). */
RULE_OF(adam)(real *param, const real *grad, real *exp_avg, real *exp_avg_sq, real *max_exp_avg_sq,
              const bool amsgrad, COEFFICIENTS(adam) c, int64_t begin, int64_t end) {
    const real least = NAME(least_decayed)(c.param_decay);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(flush_to_square)(NAME(plus)(c.scale * grad[i], c.l2, param[i]));
        const real m = NAME(flush_to_scale)(c.beta1 * exp_avg[i] + c.one_minus_beta1 * g);
        real v = NAME(flush)(c.beta2 * exp_avg_sq[i] + c.one_minus_beta2 * g * g);
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        if (amsgrad) {
            v = max_exp_avg_sq[i] > v ? max_exp_avg_sq[i] : v;
            max_exp_avg_sq[i] = v;
        }
        param[i] = NAME(zero_below)(least, c.param_decay * param[i]) - c.step_size * m / (c.inv_sqrt_bias2 * NAME(square_root)(v) + c.eps);
    }
}

KERNEL_OF(adam) { NAME(adam_rule)(s[0], s[1], s[2], s[3], NULL, false, COEFS(adam)); }
KERNEL_OF(amsgrad) { NAME(adam_rule)(s[0], s[1], s[2], s[3], s[4], true, COEFS(adam)); }
