/* x86-64 with AVX-512F: Intel servers from 2017, AMD from 2022. gcc must be told to prefer full width; clang does. */
#include "fastopt.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f,prefer-vector-width=512")
#endif
#define ISA avx512
#include "isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
