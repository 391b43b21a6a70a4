/* What else can happen to a chunk while it is in cache. */

/* The moving average of the weights (Polyak & Juditsky 1992, in its exponential form): decay * e + (1 - decay) * p,
 * computed from the difference. The two products, each rounded, drift: in float32, with a decay of 0.9999, by 3e-4,
 * against 7e-6. Where both are the same infinity there is no difference to compute. */
KERNEL_OF(ema) {
    real *ema = s[0];
    const real *param = s[1];
    COEFFICIENTS(ema) k = *(COEFFICIENTS(ema) *)c;
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real difference = param[i] - ema[i];
        const real near_ema = ema[i] + k.one_minus_ema_decay * difference;
        const real near_param = NAME(plus)(param[i], -k.ema_decay, difference);
        const real moved = k.one_minus_ema_decay < (real)0.5 ? near_ema : near_param;
        ema[i] = NAME(flush)(param[i] == ema[i] ? ema[i] : moved);
    }
}

KERNEL_OF(zero_grad) {
    real *grad = s[0];
    const real value = ((COEFFICIENTS(zero_grad) *)c)->zero;
    SIMD
    for (int64_t i = begin; i < end; i++)
        grad[i] = value;
}
