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

RULE_OF(sgd)(real *param, const real *grad, COEFFICIENTS(sgd) c, int64_t begin, int64_t end) {
    const real min_param = NAME(min_decayed_param)(c.param_decay);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(add_scaled)(c.scale * grad[i], c.l2, param[i]);
        param[i] = NAME(zero_below)(min_param, c.param_decay * param[i]) - c.step_size * g;
    }
}

/* Polyak (1964), Sutskever et al. (2013). PyTorch's, Keras's and the classical form differ in the update of the buffer
 * (buffer_decay, grad_weight); Nesterov's look-ahead weights buffer and gradient (nesterov_buffer, nesterov_grad). */
RULE_OF(momentum)(real *param, const real *grad, real *momentum_buffer, COEFFICIENTS(momentum) c, int64_t begin,
                  int64_t end) {
    const real min_param = NAME(min_decayed_param)(c.param_decay);
    SIMD
    for (int64_t i = begin; i < end; i++) {
        const real g = NAME(add_scaled)(c.scale * grad[i], c.l2, param[i]);
        const real b = NAME(flush_to_scale)(NAME(add_scaled)(c.grad_weight * g, c.buffer_decay, momentum_buffer[i]));
        const real direction = c.nesterov != 0 ? c.nesterov_buffer * b + c.nesterov_grad * g : b;
        param[i] = NAME(zero_below)(min_param, c.param_decay * param[i]) - c.step_size * direction;
        momentum_buffer[i] = b;
    }
}

KERNEL_OF(sgd, sgd, o[0], o[1])
KERNEL_OF(momentum, momentum, o[0], o[1], o[2])

#endif
