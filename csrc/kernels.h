/* All kernels for one real type (the includer defines `real`), compiled once per instruction set.
 *
 * A rule is the plain loop over [begin, end), and the compiler vectorises it. Options that cost only arithmetic are
 * coefficients with a value that means "not"; options that cost a stream are constant flags that inlining folds away: no loop
 * is written twice. Without contraction (-ffp-contract=off) + - * / and sqrt are exact in the sense of IEEE 754 at
 * every vector width, which is why all instruction sets give the same bits. */

#undef NAME
#define NAME(name) PASTE(name, real) /* adam -> adam_float */

#ifndef SIMD
#define SIMD _Pragma("omp simd")
#define INLINE static inline __attribute__((always_inline))
#define RULE_OF(rule) INLINE void NAME(rule##_rule)
#define KERNEL_OF(kernel) static void NAME(kernel)(void *const *s, const void *c, int64_t begin, int64_t end)
#define TASK_OF(task) static double NAME(task##_task)(void *const *a, const double *n, int64_t begin, int64_t end)
#define COEFFICIENTS(rule) const struct NAME(rule##_coefficients)
#endif

#define RULE(rule, ...) \
    struct NAME(rule##_coefficients) { \
        real __VA_ARGS__; \
    };
#include "kernels.def"

#include "numerics.h"
#include "update_rules.h"
#include "stages.h"
#include "exp_log.h"
#include "random.h"
#include "losses.h"
#include "softmax.h"
#include "class_losses.h"
#include "layers.h"
#include "images.h"
