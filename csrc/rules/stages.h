/* Stages that can run on a chunk after the rule, while it is in cache. */
#ifndef FASTOPT_STAGES_H
#define FASTOPT_STAGES_H
#include "rule.h"

static void ema_coefficients(const struct fastopt_hyperparameters *h, int64_t step, double *coefficients) {
    struct ema_coefficients_double *c = (struct ema_coefficients_double *)coefficients;
    (void)step;
    c->ema_decay = h->ema_decay;
    c->one_minus_ema_decay = 1 - h->ema_decay;
}

static void zero_grad_coefficients(const struct fastopt_hyperparameters *h, int64_t step, double *coefficients) {
    (void)h, (void)step;
    *coefficients = 0;
}

#define TEMPLATE "rules/stages.h"
#include "../for_each_real.h"
#elif defined(real)

/* The moving average of the weights (Polyak & Juditsky 1992, in its exponential form), decay * ema + (1 - decay) *
 * param, computed from the difference. The sum of the two rounded products drifts: in float32, with a decay of 0.9999,
 * by 3e-4, against 7e-6. If both are the same infinity, the difference is NaN and the average stays. */
RULE_OF(ema)(real *ema, const real *param, COEFFICIENTS(ema) c, int64_t begin, int64_t end) {
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real difference = param[i] - ema[i];
        const real near_ema = ema[i] + c.one_minus_ema_decay * difference;
        const real near_param = NAME(add_scaled)(param[i], -c.ema_decay, difference);
        const real moved = c.one_minus_ema_decay < (real)0.5 ? near_ema : near_param;
        ema[i] = NAME(zero_below)(PICK(FLT_MIN, DBL_MIN), param[i] == ema[i] ? ema[i] : moved);
    }
}

RULE_OF(zero_grad)(real *grad, COEFFICIENTS(zero_grad) c, int64_t begin, int64_t end) {
    SIMD
    for (int64_t i = begin; i < end; i++)
        grad[i] = c.zero;
}

STAGE_OF(ema, ema, o[0], o[1])
STAGE_OF(zero_grad, zero_grad, o[0])

#endif
