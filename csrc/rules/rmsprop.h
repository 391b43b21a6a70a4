/* RMSprop. Mirrors fastopt/optimizers/rmsprop.py and fastopt/reference/rmsprop.py. */

/* Tieleman & Hinton (2012); centered: Graves (2013). */
RULE_OF(rmsprop)(real *param, const real *grad, real *square_avg, real *grad_avg, real *momentum_buffer,
                 const bool centered, const bool with_momentum, COEFFICIENTS(rmsprop) c, int64_t begin, int64_t end) {
    const real least = NAME(least_decayed)(c.param_decay);
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
        param[i] = NAME(zero_below)(least, c.param_decay * param[i]) - c.step_size * direction;
    }
}

KERNEL_OF(rmsprop) { NAME(rmsprop_rule)(s[0], s[1], s[2], NULL, NULL, false, false, COEFS(rmsprop)); }
KERNEL_OF(rmsprop_centered) { NAME(rmsprop_rule)(s[0], s[1], s[2], s[3], NULL, true, false, COEFS(rmsprop)); }
KERNEL_OF(rmsprop_momentum) { NAME(rmsprop_rule)(s[0], s[1], s[2], NULL, s[3], false, true, COEFS(rmsprop)); }
KERNEL_OF(rmsprop_centered_momentum) { NAME(rmsprop_rule)(s[0], s[1], s[2], s[3], s[4], true, true, COEFS(rmsprop)); }
