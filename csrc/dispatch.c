/* The names of kernels, ops and their arguments, and the choice of an instruction set. */
#include "fastopt.h"

#include <stdbool.h>
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

/* CPUID and XGETBV, because __builtin_cpu_supports needs a constructor of the compiler's runtime library, which some
 * linkers leave out; then it finds nothing. XGETBV as assembly, because the intrinsic needs -mxsave. */
#if defined(__x86_64__)
#include <cpuid.h>

enum { SAVES_YMM = 0x6, SAVES_ZMM = 0xe6 }; /* XCR0: the operating system saves XMM, YMM; and K0-7, ZMM0-15, ZMM16-31 */

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

static bool has_all(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }

static bool has_avx2(void) {
    const struct cpu cpu = detect_cpu();
    return has_all(cpu.xcr0, SAVES_YMM) && has_all(cpu.leaf1_ecx, bit_AVX) && has_all(cpu.leaf7_ebx, bit_AVX2);
}

/* clang's target avx512f includes AVX2, FMA and F16C. */
static bool has_avx512(void) {
    const struct cpu cpu = detect_cpu();
    return has_avx2() && has_all(cpu.xcr0, SAVES_ZMM) && has_all(cpu.leaf1_ecx, bit_FMA | bit_F16C) &&
           has_all(cpu.leaf7_ebx, bit_AVX512F);
}
#endif

const struct fastopt_table *kernel_table(int i) {
#if defined(__x86_64__)
    if (has_avx512() && i-- == 0)
        return &fastopt_table_avx512;
    if (has_avx2() && i-- == 0)
        return &fastopt_table_avx2;
#endif
    return i == 0 ? &fastopt_table_baseline : NULL;
}
