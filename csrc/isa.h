/* The kernels of one instruction set: compiled once per real type, collected in fastopt_table_<ISA>.
 * The file that includes this has said the name (ISA) and, to the compiler, the target. */
#include "fastopt.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

#define real double /* first, for float's losses take the logarithms of their sums in double */
#include "kernels.h"
#undef real

#define real float
#include "kernels.h"
#undef real

const struct fastopt_table PASTE(fastopt_table, ISA) = {
    .kernels =
        {
#define KERNEL(kernel, rule, ...) [FASTOPT_F32][FASTOPT_KERNEL_##kernel] = kernel##_float,
#include "kernels.def"
#define KERNEL(kernel, rule, ...) [FASTOPT_F64][FASTOPT_KERNEL_##kernel] = kernel##_double,
#include "kernels.def"
        },
    .tasks =
        {
#define TASK(task, arrays, numbers) [FASTOPT_F32][FASTOPT_TASK_##task] = task##_task_float,
#include "ops.def"
#define TASK(task, arrays, numbers) [FASTOPT_F64][FASTOPT_TASK_##task] = task##_task_double,
#include "ops.def"
        },
    .sum_squares = {[FASTOPT_F32] = sum_squares_float, [FASTOPT_F64] = sum_squares_double},
    .isa = TEXT(ISA),
};
