/* The names of kernels, ops and their arguments, and the choice of an instruction set. */
#include "fastopt.h"

#include <stdbool.h>
#include <stddef.h>

#define HYPERPARAMETERS(...) const char *const fastopt_hyperparameter_names = #__VA_ARGS__;
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

/* CPUID and XGETBV, because __builtin_cpu_supports finds nothing where the linker leaves out a constructor of the
 * compiler's runtime library, as zig's does. XGETBV as assembly, because the intrinsic needs -mxsave. */
#if defined(__x86_64__)
#include <cpuid.h>

enum { XCR0_YMM = 0x6, XCR0_ZMM = 0xe6 }; /* the operating system saves these registers */

struct cpu {
    unsigned leaf1_ecx, leaf7_ebx, xcr0;
};

static struct cpu detect_cpu(void) {
    struct cpu cpu = {0, 0, 0};
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        cpu.leaf1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        cpu.leaf7_ebx = ebx;
    if (cpu.leaf1_ecx & bit_OSXSAVE)
        __asm__("xgetbv" : "=a"(cpu.xcr0), "=d"(edx) : "c"(0));
    return cpu;
}

static bool has(unsigned flags, unsigned wanted) { return (flags & wanted) == wanted; }
#endif

const struct fastopt_table *kernel_table(int i) {
#if defined(__x86_64__)
    const struct cpu cpu = detect_cpu();
    const bool avx = has(cpu.leaf1_ecx, bit_AVX) && has(cpu.xcr0, XCR0_YMM);
    const bool avx2 = avx && has(cpu.leaf7_ebx, bit_AVX2);
    const bool avx512 = avx2 && has(cpu.leaf1_ecx, bit_FMA | bit_F16C) && /* clang's target avx512f includes these */
                        has(cpu.leaf7_ebx, bit_AVX512F) && has(cpu.xcr0, XCR0_ZMM);
    if (avx512 && i-- == 0)
        return &fastopt_table_avx512;
    if (avx2 && i-- == 0)
        return &fastopt_table_avx2;
#endif
    return i == 0 ? &fastopt_table_baseline : NULL;
}
