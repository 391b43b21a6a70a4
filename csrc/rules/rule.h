/* Definitions shared by all rules.
 *
 * A rule is a plain loop over [begin, end), which the compiler vectorizes. An option that costs only arithmetic is a
 * coefficient with a neutral value. An option that needs another operand is a constant bool, so that inlining drops its
 * branch and no loop is written twice. Without contraction (-ffp-contract=off) IEEE 754 defines + - * / and sqrt
 * exactly at every vector width: all instruction sets compute the same bits. */
#ifndef FASTOPT_RULE_H
#define FASTOPT_RULE_H

#include "../math/basic.h"
#include "../real.h"

#define RULE_OF(rule) INLINE void NAME(rule##_rule)
#define COEFFICIENTS(rule) const struct NAME(rule##_coefficients)

/* KERNEL_OF(kernel, rule, operands and options of the rule): define a kernel that calls a rule; o are its operands. */
#define KERNEL_OF(kernel, rule, ...) \
    static void NAME(kernel##_kernel)(void *const *o, const void *coefficients, int64_t begin, int64_t end) { \
        NAME(rule##_rule)(__VA_ARGS__, *(COEFFICIENTS(rule) *)coefficients, begin, end); \
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
