/* The table of kernels of one instruction set, fastopt_table_<ISA>. The includer defines ISA and sets the compiler's
 * target; it includes this file once. */
#include "fastopt.h"
#include "math/reduce.h"
#include "ops/batch_norm.h"
#include "ops/cross_entropy.h"
#include "ops/dice.h"
#include "ops/images.h"
#include "ops/layers.h"
#include "ops/losses.h"
#include "ops/nearest.h"
#include "real.h"
#include "rules/adagrad.h"
#include "rules/adam.h"
#include "rules/rmsprop.h"
#include "rules/sgd.h"
#include "rules/stages.h"

#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

const struct fastopt_table PASTE(fastopt_table, ISA) = {
    .isa = TEXT(ISA),
#define KERNEL(kernel, rule, ...) \
    .coefficients[FASTOPT_KERNEL_##kernel] = rule##_coefficients, \
    .kernels[FASTOPT_F32][FASTOPT_KERNEL_##kernel] = kernel##_kernel_float, \
    .kernels[FASTOPT_F64][FASTOPT_KERNEL_##kernel] = kernel##_kernel_double,
#include "kernels.def"
#define OP(op, arguments) \
    .ops[FASTOPT_F32][FASTOPT_OP_##op] = op##_op_float, \
    .ops[FASTOPT_F64][FASTOPT_OP_##op] = op##_op_double,
#include "ops.def"
    .sum_squares = {[FASTOPT_F32] = sum_squares_float, [FASTOPT_F64] = sum_squares_double},
};
