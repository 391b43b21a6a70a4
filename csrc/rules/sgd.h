/* SGD and momentum. Mirrors fastopt/optimizers/sgd.py and fastopt/reference/sgd.py. */

RULE_OF(sgd)(real *param, const real *grad, COEFFICIENTS(sgd) c, int64_t begin, int64_t end) {
    const real least = NAME(least_decayed)(c.param_decay);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(plus)(c.scale * grad[i], c.l2, param[i]);
        param[i] = NAME(zero_below)(least, c.param_decay * param[i]) - c.step_size * g;
    }
}

/* Polyak (1964), Sutskever et al. (2013). The three forms in use and the Nesterov look-ahead differ in what enters the
 * buffer (keep, add) and in how buffer and gradient make the direction (ahead_buffer, ahead_grad; nesterov is 0 or 1). */
RULE_OF(momentum)(real *param, const real *grad, real *momentum_buffer, COEFFICIENTS(momentum) c, int64_t begin,
                  int64_t end) {
    const real least = NAME(least_decayed)(c.param_decay);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(plus)(c.scale * grad[i], c.l2, param[i]);
        const real b = NAME(flush_to_scale)(NAME(plus)(c.grad_weight * g, c.buffer_decay, momentum_buffer[i]));
        const real direction = c.nesterov != 0 ? c.nesterov_buffer * b + c.nesterov_grad * g : b;
        param[i] = NAME(zero_below)(least, c.param_decay * param[i]) - c.step_size * direction;
        momentum_buffer[i] = b;
    }
}

KERNEL_OF(sgd) { NAME(sgd_rule)(s[0], s[1], COEFS(sgd)); }
KERNEL_OF(momentum) { NAME(momentum_rule)(s[0], s[1], s[2], COEFS(momentum)); }
