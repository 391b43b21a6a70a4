/* The optimizers, simplest first. Each mirrors a class in fastopt/optimizers.py, which computes the coefficients, and
 * a function in fastopt/reference/optimizers.py. In all of them: scale is what the gradient is multiplied by
 * (unscaling, clip factor and the sign of maximize in one), l2 the coupled decay, shrink = 1 - lr * (decoupled decay).
 *
 * A choice that is the same for all elements the compiler takes out of the loop. */

RULE_OF(sgd)(real *param, const real *grad, COEFFICIENTS(sgd) c, int64_t begin, int64_t end) {
    const real least = NAME(least_decayed)(c.shrink);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(plus)(c.scale * grad[i], c.l2, param[i]);
        param[i] = NAME(zero_below)(least, c.shrink * param[i]) - c.rate * g;
    }
}

/* Polyak (1964), Sutskever et al. (2013). The three forms in use and the Nesterov look-ahead differ in what enters the
 * buffer (keep, add) and in how buffer and gradient make the direction (ahead_buffer, ahead_grad; nesterov is 0 or 1). */
RULE_OF(momentum)(real *param, const real *grad, real *momentum_buffer, COEFFICIENTS(momentum) c, int64_t begin,
                  int64_t end) {
    const real least = NAME(least_decayed)(c.shrink);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(plus)(c.scale * grad[i], c.l2, param[i]);
        const real b = NAME(flush_to_scale)(NAME(plus)(c.add * g, c.keep, momentum_buffer[i]));
        const real direction = c.nesterov != 0 ? c.ahead_buffer * b + c.ahead_grad * g : b;
        param[i] = NAME(zero_below)(least, c.shrink * param[i]) - c.rate * direction;
        momentum_buffer[i] = b;
    }
}

/* Tieleman & Hinton (2012); centered: Graves (2013). */
RULE_OF(rmsprop)(real *param, const real *grad, real *square_avg, real *grad_avg, real *momentum_buffer,
                 const bool centered, const bool with_momentum, COEFFICIENTS(rmsprop) c, int64_t begin, int64_t end) {
    const real least = NAME(least_decayed)(c.shrink);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(flush_to_square)(NAME(plus)(c.scale * grad[i], c.l2, param[i]));
        real v = NAME(flush)(c.alpha * square_avg[i] + c.one_minus_alpha * g * g);
        square_avg[i] = v;
        if (centered) {
            const real a = NAME(flush_to_square)(c.alpha * grad_avg[i] + c.one_minus_alpha * g);
            grad_avg[i] = a;
            v = v - a * a;
            v = v < 0 ? 0 : v;
        }
        real direction = g / (NAME(square_root)(v + c.eps_root) + c.eps);
        if (with_momentum) {
            direction = NAME(flush_to_scale)(c.momentum * momentum_buffer[i] + direction);
            momentum_buffer[i] = direction;
        }
        param[i] = NAME(zero_below)(least, c.shrink * param[i]) - c.rate * direction;
    }
}

/* Kingma & Ba (2015); amsgrad: Reddi et al. (2018); shrink below 1 makes it AdamW: Loshchilov & Hutter (2019).
 * The bias corrections are in rate = lr / (1 - beta1^t) and root = 1 / sqrt(1 - beta2^t). */
RULE_OF(adam)(real *param, const real *grad, real *exp_avg, real *exp_avg_sq, real *max_exp_avg_sq,
              const bool amsgrad, COEFFICIENTS(adam) c, int64_t begin, int64_t end) {
    const real least = NAME(least_decayed)(c.shrink);
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
        param[i] = NAME(zero_below)(least, c.shrink * param[i]) - c.rate * m / (c.root * NAME(square_root)(v) + c.eps);
    }
}

/* The kernels: the streams that a rule gets, in the order of kernels.def, and its constant flags. */
#define COEFS(rule) *(COEFFICIENTS(rule) *)c, begin, end
KERNEL_OF(sgd) { NAME(sgd_rule)(s[0], s[1], COEFS(sgd)); }
KERNEL_OF(momentum) { NAME(momentum_rule)(s[0], s[1], s[2], COEFS(momentum)); }
KERNEL_OF(rmsprop) { NAME(rmsprop_rule)(s[0], s[1], s[2], NULL, NULL, false, false, COEFS(rmsprop)); }
KERNEL_OF(rmsprop_centered) { NAME(rmsprop_rule)(s[0], s[1], s[2], s[3], NULL, true, false, COEFS(rmsprop)); }
KERNEL_OF(rmsprop_momentum) { NAME(rmsprop_rule)(s[0], s[1], s[2], NULL, s[3], false, true, COEFS(rmsprop)); }
KERNEL_OF(rmsprop_centered_momentum) { NAME(rmsprop_rule)(s[0], s[1], s[2], s[3], s[4], true, true, COEFS(rmsprop)); }
KERNEL_OF(adam) { NAME(adam_rule)(s[0], s[1], s[2], s[3], NULL, false, COEFS(adam)); }
KERNEL_OF(amsgrad) { NAME(adam_rule)(s[0], s[1], s[2], s[3], s[4], true, COEFS(adam)); }
#undef COEFS
