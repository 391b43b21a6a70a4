/* Definitions shared by all ops: a struct of the arguments of each, and OP_OF, which defines an op.
 *
 *     OP_OF(exp) { ... a.x[i] ... }
 *
 * defines the op exp, with its arguments a and the range [begin, end). The struct is passed by value, so the compiler
 * knows that writing to an array does not change an argument. */
#ifndef FASTOPT_OP_H
#define FASTOPT_OP_H

#include "../fastopt.h"
#include "../real.h"

#define ARGUMENTS(op) const struct NAME(op##_arguments)
#define OP_OF(op) \
    INLINE double NAME(op##_body)(ARGUMENTS(op) a, int64_t begin, int64_t end); \
    static double NAME(op##_op)(const union fastopt_argument *arguments, int64_t begin, int64_t end) { \
        return NAME(op##_body)(*(ARGUMENTS(op) *)(const void *)arguments, begin, end); \
    } \
    INLINE double NAME(op##_body)(ARGUMENTS(op) a, int64_t begin, int64_t end)

/* Arguments of 8 bytes, aligned to 8 bytes, have the layout of an array of unions. */
#define ARGUMENT(type, name) _Alignas(union fastopt_argument) type name;
_Static_assert(sizeof(union fastopt_argument) == 8 && _Alignof(union fastopt_argument) == 8, "arguments have 8 bytes");

#define TEMPLATE "ops/op.h"
#include "../for_each_real.h"

#elif defined(real)

#define IN(type, name) ARGUMENT(const type *, name)
#define OUT(type, name) ARGUMENT(type *, name)
#define INOUT(type, name) ARGUMENT(type *, name)
#define REAL(name) ARGUMENT(double, name)
#define INT(name) ARGUMENT(int64_t, name)
#define UINT(name) ARGUMENT(uint64_t, name)
#define OP(op, arguments) \
    struct NAME(op##_arguments) { \
        arguments \
    }; \
    _Static_assert(sizeof(struct NAME(op##_arguments)) <= 8 * FASTOPT_MAX_ARGUMENTS, "raise FASTOPT_MAX_ARGUMENTS");
#include "../ops.def"

#endif
