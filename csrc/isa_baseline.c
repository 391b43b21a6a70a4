/* The processor's baseline: SSE2 on x86-64, NEON on arm64. */
#define ISA baseline
#include "isa.h"
