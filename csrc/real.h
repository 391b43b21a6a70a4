/* Macros for code that is compiled for both real types.
 *
 * A header with kernels is written once, in terms of `real`, and includes itself once per type:
 *
 *     #ifndef FASTOPT_NAME_H
 *     #define FASTOPT_NAME_H
 *     #include ...                   its dependencies, and code that does not depend on the type
 *     #define TEMPLATE "name.h"      its own path from here
 *     #include "for_each_real.h"
 *     #elif defined(real)
 *     ...                            code in which NAME(f) is f_float or f_double
 *     #endif
 *
 * So each header includes its dependencies, in any order, and code for float can use functions for double. */
#ifndef FASTOPT_REAL_H
#define FASTOPT_REAL_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(name) PASTE(name, real)
#define PICK(of_float, of_double) _Generic((real)0, float: of_float, double: of_double)

#define INLINE static inline __attribute__((always_inline))
/* For functions that work on a whole block: a copy at each call would triple the size of the library. */
#define NOINLINE static __attribute__((noinline))
#define SIMD _Pragma("omp simd")
/* For a short loop that must be unrolled, because a loop around it is to be vectorized, or because that is faster.
 * setup.py tells gcc to unroll only four iterations of others. */
#define UNROLL _Pragma("GCC unroll 16")

#endif
