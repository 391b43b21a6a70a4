/* The interface between the C kernels and the core that calls them: signatures, the table of kernels of an instruction
 * set, and the tables that this machine can run. Kernels know neither Python nor threads: they work on a range. */
#ifndef FASTOPT_H
#define FASTOPT_H

#include <float.h>
#include <stdint.h>

/* Results are bit-for-bit reproducible only if each operation is rounded to its type, as IEEE 754 defines. */
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "fastopt can't be exact with wider intermediate results (x87): build for SSE2"
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "fastopt can't be exact with -ffast-math or -ffinite-math-only: take them out of CFLAGS"
#endif

#if defined(__clang__)
#define FASTOPT_COMPILER __VERSION__
#else
#define FASTOPT_COMPILER "gcc " __VERSION__
#endif

/* Elements of a chunk: all stages of a step run on a chunk before the next chunk starts, and sums of squares are per
 * chunk. A step has at most six operands; 4,096 doubles of each are 192 KiB, which fit into a second-level cache. */
enum { FASTOPT_CHUNK = 4096 };

/* The steps of a tensor whose numbers are multiples of this flush tiny values; see math/basic.h. */
enum { FASTOPT_FLUSH_PERIOD = 32 };

enum { FASTOPT_F32, FASTOPT_F64, FASTOPT_REALS };

enum {
#define KERNEL(kernel, rule, ...) FASTOPT_KERNEL_##kernel,
#include "kernels.def"
    FASTOPT_KERNELS
};

enum {
#define OP(op, arguments) FASTOPT_OP_##op,
#include "ops.def"
    FASTOPT_OPS
};

/* An argument of an op. An op reads an array of them as its struct, whose members have the same layout (ops/op.h). */
union fastopt_argument {
    void *array;
    double real_number;
    int64_t integer;
    uint64_t unsigned_integer;
};
enum { FASTOPT_MAX_ARGUMENTS = 16 };

/* The hyperparameters of a step, of all optimizers. */
struct fastopt_hyperparameters {
#define HYPERPARAMETERS(...) double __VA_ARGS__;
#include "kernels.def"
};

/* Compute the coefficients of a kernel in a step, counted from 1; they are ordered as in kernels.def. */
typedef void fastopt_coefficients(const struct fastopt_hyperparameters *h, int64_t step, double *coefficients);
/* A kernel works on elements [begin, end) of all operands; operands and coefficients are ordered as in kernels.def. */
typedef void fastopt_kernel(void *const *operands, const void *coefficients, int64_t begin, int64_t end);
/* An op works on elements or rows [begin, end) and returns a sum; arguments are ordered as in ops.def. */
typedef double fastopt_op(const union fastopt_argument *arguments, int64_t begin, int64_t end);
typedef double fastopt_reduction(const void *x, int64_t begin, int64_t end);

struct fastopt_kernel_info {
    const char *name, *operands, *coefficients; /* lists as text: "param, grad" */
};
extern const struct fastopt_kernel_info fastopt_kernel_info[FASTOPT_KERNELS];
extern const char *const fastopt_hyperparameter_names;

enum fastopt_kind { FASTOPT_IN, FASTOPT_OUT, FASTOPT_INOUT, FASTOPT_REAL, FASTOPT_INT, FASTOPT_UINT };
struct fastopt_argument_info {
    const char *name; /* NULL past the last argument */
    enum fastopt_kind kind;
};
struct fastopt_op_info {
    const char *name;
    struct fastopt_argument_info arguments[FASTOPT_MAX_ARGUMENTS + 1];
};
extern const struct fastopt_op_info fastopt_op_info[FASTOPT_OPS];

struct fastopt_table {
    const char *isa;
    fastopt_coefficients *coefficients[FASTOPT_KERNELS];
    fastopt_kernel *kernels[FASTOPT_REALS][FASTOPT_KERNELS];
    fastopt_op *ops[FASTOPT_REALS][FASTOPT_OPS];
    fastopt_reduction *sum_squares[FASTOPT_REALS];
};

/* Return the i-th widest table that processor and operating system support, or NULL past the last. */
const struct fastopt_table *kernel_table(int i);

/* Set the thread's floating-point environment to the IEEE defaults, and return the old one. Another library may
 * have made some threads flush denormals, and results would depend on the thread that computes them. */
static inline uint64_t fp_env_set(void) {
#if defined(__x86_64__)
    const uint64_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1f80);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ __volatile__("mrs %0, fpcr\n\tmsr fpcr, xzr" : "=&r"(before));
    return before;
#else
    return 0;
#endif
}

static inline void fp_env_restore(uint64_t before) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

#endif
