/* SGD and momentum. Mirrors fastopt/optimizers/sgd.py and fastopt/reference/sgd.py. */
#ifndef FASTOPT_SGD_H
#define FASTOPT_SGD_H
#include "rule.h"

COEFFICIENTS_OF(sgd) {
    return c->step_size = h->lr;
}

/* The rate is inside the buffer in the classical form; in PyTorch's, the buffer is the gradient at step 1. */
COEFFICIENTS_OF(momentum) {
    const bool classical = h->form_classical != 0, ema = h->form_ema != 0, pytorch = !classical && !ema;
    const bool copies_grad = pytorch && step == 1;
    c->buffer_decay = copies_grad ? 0 : h->momentum;
    c->grad_weight = classical ? h->lr : 1 - (ema ? h->momentum : copies_grad ? 0 : h->dampening);
    c->nesterov = h->nesterov;
    c->nesterov_buffer = h->momentum;
    c->nesterov_grad = pytorch ? 1 : c->grad_weight;
    c->step_size = classical ? 1 : h->lr;
    return h->lr;
}

#define TEMPLATE "rules/sgd.h"
#include "../for_each_real.h"
#elif defined(real)

RULE_OF(sgd)(real *param, const real *grad, const bool flush, COEFFICIENTS(sgd) c, int64_t begin, int64_t end) {
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(add_scaled)(c.scale * grad[i], c.l2, param[i]);
        param[i] = NAME(decayed)(flush, c.param_decay, param[i]) - c.step_size * g;
    }
}

/* Polyak (1964), Sutskever et al. (2013). PyTorch's, Keras's and the classical form differ in the update of the buffer
 * (buffer_decay, grad_weight); Nesterov's look-ahead weights buffer and gradient (nesterov_buffer, nesterov_grad). */
RULE_OF(momentum_form)(real *param, const real *grad, real *momentum_buffer, const bool nesterov, const bool flush,
                       COEFFICIENTS(momentum) c, int64_t begin, int64_t end) {
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(add_scaled)(c.scale * grad[i], c.l2, param[i]);
        const real b = NAME(flush_to_scale)(flush, c.buffer_decay * momentum_buffer[i] + c.grad_weight * g);
        momentum_buffer[i] = b;
        const real direction = nesterov ? c.nesterov_buffer * b + c.nesterov_grad * g : b;
        param[i] = NAME(decayed)(flush, c.param_decay, param[i]) - c.step_size * direction;
    }
}

RULE_OF(momentum)(real *param, const real *grad, real *momentum_buffer, const bool flush, COEFFICIENTS(momentum) c,
                  int64_t begin, int64_t end) {
    if (c.nesterov != 0) /* clang does not move the condition out of the loop */
        NAME(momentum_form_rule)(param, grad, momentum_buffer, true, flush, c, begin, end);
    else
        NAME(momentum_form_rule)(param, grad, momentum_buffer, false, flush, c, begin, end);
}

KERNEL_OF(sgd, sgd, o[0], o[1])
KERNEL_OF(momentum, momentum, o[0], o[1], o[2])

#endif
