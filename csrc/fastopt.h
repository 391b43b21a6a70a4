/* What the Cython core sees of the C kernels: their signatures, the table of them for one instruction set, and the
 * tables that this machine can run. No Python here and no threads: a kernel gets a range of some streams. */
#ifndef FASTOPT_H
#define FASTOPT_H

#include <float.h>
#include <stdint.h>

/* Results are exact to the bit, so arithmetic is in the type itself (no x87) and follows IEEE 754. */
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "fastopt can't be exact with wider intermediate results (x87): build for SSE2"
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "fastopt can't be exact with -ffast-math or -ffinite-math-only: take them out of CFLAGS"
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define FASTOPT_X86_64 1
#else
#define FASTOPT_X86_64 0
#endif

#if defined(__clang__)
#define FASTOPT_COMPILER __VERSION__
#elif defined(__GNUC__)
#define FASTOPT_COMPILER "gcc " __VERSION__
#else
#define FASTOPT_COMPILER "unknown"
#endif

/* Elements of a chunk: what all stages of a step visit before the next chunk starts, and the block of the fixed-shape
 * reductions. 4,096 doubles of the six streams that a step has at most are 192 KiB: they stay in a second-level cache. */
enum { FASTOPT_CHUNK = 4096 };

enum { FASTOPT_F32, FASTOPT_F64, FASTOPT_REALS };

/* Elements [begin, end) of every stream; streams and coefficients in the order of kernels.def. */
typedef void fastopt_kernel(void *const *streams, const void *coefficients, int64_t begin, int64_t end);
typedef double fastopt_reduction(const void *stream, int64_t begin, int64_t end);
/* Elements or rows [begin, end) of some arrays, with numbers, in the order of tasks.def; gives a sum. */
typedef double fastopt_task(void *const *arrays, const double *numbers, int64_t begin, int64_t end);

enum {
#define KERNEL(kernel, rule, ...) FASTOPT_KERNEL_##kernel,
#include "kernels.def"
    FASTOPT_KERNELS
};

enum {
#define TASK(task, arrays, numbers) FASTOPT_TASK_##task,
#include "ops.def"
    FASTOPT_TASKS
};

/* Around the work of a thread: IEEE arithmetic, whatever the thread was set to. Another library may have switched it
 * to flush denormals (each thread for itself, so that results would depend on who computes them). */
static inline uint64_t fastopt_enter(void) {
#if FASTOPT_X86_64
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

static inline void fastopt_leave(uint64_t before) {
#if FASTOPT_X86_64
    __builtin_ia32_ldmxcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

struct fastopt_kernel_info {
    const char *name, *streams, *coefficients; /* the lists as text: "param, grad" */
};
extern const struct fastopt_kernel_info fastopt_kernel_info[FASTOPT_KERNELS];

struct fastopt_task_info {
    const char *name, *arrays, *numbers;
};
extern const struct fastopt_task_info fastopt_task_info[FASTOPT_TASKS];

struct fastopt_table {
    const char *isa;
    fastopt_kernel *kernels[FASTOPT_REALS][FASTOPT_KERNELS];
    fastopt_task *tasks[FASTOPT_REALS][FASTOPT_TASKS];
    fastopt_reduction *sum_squares[FASTOPT_REALS];
};

/* The i-th widest table that processor and operating system support; NULL behind the last. */
const struct fastopt_table *fastopt_pick_table(int i);

#endif
