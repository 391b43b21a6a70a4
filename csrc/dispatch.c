/* The names of kernels, ops and their arguments, and the choice of an instruction set. */
#include "fastopt.h"

#include <stddef.h>

#define RULE(rule, ...) static const char coefficients_of_##rule[] = #__VA_ARGS__;
#include "kernels.def"

const struct fastopt_kernel_info fastopt_kernel_info[FASTOPT_KERNELS] = {
#define KERNEL(kernel, rule, ...) {#kernel, #__VA_ARGS__, coefficients_of_##rule},
#include "kernels.def"
};

const struct fastopt_op_info fastopt_op_info[FASTOPT_OPS] = {
#define IN(type, name) {#name, FASTOPT_IN},
#define OUT(type, name) {#name, FASTOPT_OUT},
#define INOUT(type, name) {#name, FASTOPT_INOUT},
#define REAL(name) {#name, FASTOPT_REAL},
#define INT(name) {#name, FASTOPT_INT},
#define UINT(name) {#name, FASTOPT_UINT},
#define OP(op, arguments) {#op, {arguments{NULL, FASTOPT_IN}}},
#include "ops.def"
};

extern const struct fastopt_table fastopt_table_baseline, fastopt_table_avx2, fastopt_table_avx512;

const struct fastopt_table *kernel_table(int i) {
#if defined(__x86_64__)
    /* The compiler's detection also asks the operating system (XGETBV), which must save the wide registers. */
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && i-- == 0)
        return &fastopt_table_avx512;
    if (__builtin_cpu_supports("avx2") && i-- == 0)
        return &fastopt_table_avx2;
#endif
    return i == 0 ? &fastopt_table_baseline : NULL;
}
