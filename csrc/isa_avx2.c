/* x86-64 with AVX2: Intel from 2013, AMD from 2015. */
#include "fastopt.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define ISA avx2
#include "isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
