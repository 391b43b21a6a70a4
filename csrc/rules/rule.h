/* Definitions shared by all rules.
 *
 * A rule is a plain loop over [begin, end), which the compiler vectorizes. An option that costs only arithmetic is a
 * coefficient with a neutral value. An option that needs another operand is a constant bool, so that inlining drops its
 * branch and no loop is written twice. Without contraction (-ffp-contract=off) IEEE 754 defines + - * / and sqrt
 * exactly at every vector width: all instruction sets compute the same bits. */
#ifndef FASTOPT_RULE_H
#define FASTOPT_RULE_H

#include "../fastopt.h"
#include "../math/basic.h"
#include "../real.h"

#define RULE_OF(rule) INLINE void NAME(rule##_rule)
#define COEFFICIENTS(rule) const struct NAME(rule##_coefficients)

#define STEP_OF(rule) \
    const struct fastopt_hyperparameters *h, int64_t step __attribute__((unused)), struct rule##_coefficients_double *c

/* COEFFICIENTS_OF(rule) { ... }: define the function that sets the coefficients c of a step from the hyperparameters h,
 * in double precision, and returns the rate that decoupled decay follows. Those that every rule has are set here. */
#define COEFFICIENTS_OF(rule) \
    static inline double rule##_own_coefficients(STEP_OF(rule)); \
    static void rule##_coefficients(const struct fastopt_hyperparameters *h, int64_t step, double *coefficients) { \
        struct rule##_coefficients_double *c = (struct rule##_coefficients_double *)coefficients; \
        const double rate = rule##_own_coefficients(h, step, c); \
        c->scale = h->maximize != 0 ? -1 : 1; \
        c->l2 = h->decoupled_weight_decay != 0 ? 0 : h->weight_decay; \
        c->param_decay = h->decoupled_weight_decay != 0 ? 1 - rate * h->weight_decay : 1; \
        c->flush = step % FASTOPT_FLUSH_PERIOD == 0; \
    } \
    static inline double rule##_own_coefficients(STEP_OF(rule))

/* STAGE_OF(kernel, rule, operands of the rule): define a kernel that calls a rule; o are its operands. */
#define STAGE_OF(kernel, rule, ...) \
    static void NAME(kernel##_kernel)(void *const *o, const void *coefficients, int64_t begin, int64_t end) { \
        NAME(rule##_rule)(__VA_ARGS__, *(COEFFICIENTS(rule) *)coefficients, begin, end); \
    }

/* KERNEL_OF(kernel, rule, operands and options of the rule): the same for a rule that updates parameters. Constants
 * make three loops of the rule, so that an option that is off costs nothing: the formula alone, with a scale and
 * coupled or decoupled decay, and with flushes as well. */
#define KERNEL_OF(kernel, rule, ...) \
    static void NAME(kernel##_kernel)(void *const *o, const void *coefficients, int64_t begin, int64_t end) { \
        struct NAME(rule##_coefficients) c = *(COEFFICIENTS(rule) *)coefficients; \
        if (c.flush != 0) \
            NAME(rule##_rule)(__VA_ARGS__, true, c, begin, end); \
        else if (c.scale != 1 || c.l2 != 0 || c.param_decay != 1) \
            NAME(rule##_rule)(__VA_ARGS__, false, c, begin, end); \
        else { \
            c.scale = c.param_decay = 1; \
            c.l2 = 0; \
            NAME(rule##_rule)(__VA_ARGS__, false, c, begin, end); \
        } \
    }

#define TEMPLATE "rules/rule.h"
#include "../for_each_real.h"

#elif defined(real)

#define RULE(rule, ...) \
    struct NAME(rule##_coefficients) { \
        real __VA_ARGS__; \
    };
#include "../kernels.def"

#endif
