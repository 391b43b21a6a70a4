/* Which kernels this machine can run, widest first, and what the kernels are called. */
#include "fastopt.h"

#include <stddef.h>

#define RULE(rule, ...) static const char coefficients_of_##rule[] = #__VA_ARGS__;
#include "kernels.def"

const struct fastopt_kernel_info fastopt_kernel_info[FASTOPT_KERNELS] = {
#define KERNEL(kernel, rule, ...) {#kernel, #__VA_ARGS__, coefficients_of_##rule},
#include "kernels.def"
};

const struct fastopt_task_info fastopt_task_info[FASTOPT_TASKS] = {
#define TASK(task, arrays, numbers) {#task, arrays, numbers},
#include "ops.def"
};

extern const struct fastopt_table fastopt_table_baseline, fastopt_table_avx2, fastopt_table_avx512;

const struct fastopt_table *fastopt_pick_table(int i) {
#if FASTOPT_X86_64
    /* The compiler's own detection: it asks the operating system too (XGETBV), which must save the wide registers. */
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && i-- == 0)
        return &fastopt_table_avx512;
    if (__builtin_cpu_supports("avx2") && i-- == 0)
        return &fastopt_table_avx2;
#endif
    return i == 0 ? &fastopt_table_baseline : NULL;
}
