/* The formula of each rule alone, without options and without care for denormal numbers, and functions that run them,
 * and the kernels of fastopt, a number of times. kernel_workloads.py compiles this file with the flags of the library,
 * once for each instruction set and type: -DTABLE=fastopt_table_avx2 -DNUMBER=float. */
#include "fastopt.h"

typedef NUMBER real;
#define SQRT(x) _Generic((real)0, float: __builtin_sqrtf, double: __builtin_sqrt)(x)

/* Not constant, so that the compiler does not fold them into the loops: in the library, they are arguments. */
struct coefficients {
    real lr, eps, param_decay, momentum, beta1, one_minus_beta1, beta2, one_minus_beta2, inv_sqrt_bias2;
} coefficients = {1e-3, 1e-8, 1 - 1e-5, 0.9, 0.9, 0.1, 0.999, 0.001, 1.25};

/* BARE(rule, { the iteration i }): define bare_<rule>(operands, n, times). */
#define BARE(rule, ...) \
    static __attribute__((noinline)) void rule(const struct coefficients c, void *const *o, int64_t n) { \
        real *const p = o[0], *const g = o[1], *const s0 = o[2], *const s1 = o[3], *const s2 = o[4]; \
        (void)c, (void)g, (void)s0, (void)s1, (void)s2; \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) __VA_ARGS__ \
    } \
    void bare_##rule(void *const *operands, int64_t n, int64_t times) { \
        while (times--) \
            rule(coefficients, operands, n); \
    }

BARE(sgd, { p[i] -= c.lr * g[i]; })
BARE(momentum, {
    const real b = c.momentum * s0[i] + g[i];
    s0[i] = b;
    p[i] -= c.lr * b;
})
BARE(rmsprop, {
    const real v = c.beta2 * s0[i] + c.one_minus_beta2 * g[i] * g[i];
    s0[i] = v;
    p[i] -= c.lr * (g[i] / (SQRT(v) + c.eps));
})
BARE(adagrad, {
    const real s = s0[i] + g[i] * g[i];
    s0[i] = s;
    p[i] -= c.lr * g[i] / (SQRT(s) + c.eps);
})
#define MOMENTS \
    const real m = c.beta1 * s0[i] + c.one_minus_beta1 * g[i]; \
    const real v = c.beta2 * s1[i] + c.one_minus_beta2 * g[i] * g[i]; \
    s0[i] = m; \
    s1[i] = v;
BARE(adam, {
    MOMENTS
    p[i] -= c.lr * m / (c.inv_sqrt_bias2 * SQRT(v) + c.eps);
})
BARE(adamw, {
    MOMENTS
    p[i] = c.param_decay * p[i] - c.lr * m / (c.inv_sqrt_bias2 * SQRT(v) + c.eps);
})
BARE(amsgrad, {
    MOMENTS
    const real w = s2[i] > v ? s2[i] : v;
    s2[i] = w;
    p[i] -= c.lr * m / (c.inv_sqrt_bias2 * SQRT(w) + c.eps);
})
BARE(division_and_root, { p[i] = g[i] / SQRT(s0[i]); }) /* the limit of most processors for a rule with both */

extern const struct fastopt_table TABLE;

/* Run a kernel of fastopt a number of times, with other coefficients in the steps that flush. */
void run_kernel(int kernel, void *const *operands, const real *coefficients, const real *flushing, int64_t n,
                int64_t times) {
    fastopt_kernel *const run = TABLE.kernels[sizeof(real) == sizeof(float) ? FASTOPT_F32 : FASTOPT_F64][kernel];
    for (int64_t k = 0; k < times; k++)
        for (int64_t begin = 0; begin < n; begin += FASTOPT_CHUNK)
            run(operands, (k + 1) % FASTOPT_FLUSH_PERIOD ? coefficients : flushing, begin,
                begin + FASTOPT_CHUNK < n ? begin + FASTOPT_CHUNK : n);
}
