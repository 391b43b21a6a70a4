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
#define COEFS(rule) *(COEFFICIENTS(rule) *)c, begin, end
#endif

#define RULE(rule, ...) \
    struct NAME(rule##_coefficients) { \
        real __VA_ARGS__; \
    };
#include "kernels.def"

#include "math/basic.h"
#include "math/reduce.h"
#include "rules/sgd.h"
#include "rules/rmsprop.h"
#include "rules/adam.h"
#include "rules/stages.h"
#include "math/exp_log.h"
#include "math/random.h"
#include "ops/losses.h"
#include "ops/softmax.h"
#include "ops/class_losses.h"
#include "ops/layers.h"
#include "ops/images.h"
