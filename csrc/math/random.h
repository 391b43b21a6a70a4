/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
 *
 * A number is a function of the seed (the key), the step, the stream (its purpose) and the index of an element. So it is
 * the same on any number of threads, and a backward pass can draw the numbers of the forward pass again. Sixteen
 * counters are computed side by side: element i is word (i / 16) % 4 of the counter 16 (i / 64) + i % 16. */
#ifndef FASTOPT_RANDOM_H
#define FASTOPT_RANDOM_H

#include "../real.h"

#define RANDOM_BLOCK 64 /* elements whose numbers are drawn together */

enum { DROPOUT_STREAM = 1, NOISE_STREAM = 4 }; /* the other streams are in fastopt/_util/random.py */

struct philox_key {
    uint64_t seed, step;
    uint32_t stream; /* below 16 */
};

INLINE void random_block(uint32_t words[RANDOM_BLOCK], struct philox_key key, int64_t block) {
    uint32_t *c0 = words, *c1 = words + 16, *c2 = words + 32, *c3 = words + 48;
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int lane = 0; lane < 16; lane++) {
        const uint64_t counter = (uint64_t)block * 16 + (uint64_t)lane;
        c0[lane] = (uint32_t)counter;
        c1[lane] = (uint32_t)(counter >> 32) | key.stream << 28;
        c2[lane] = (uint32_t)key.step;
        c3[lane] = (uint32_t)(key.step >> 32);
    }
    for (int round = 0; round < 10; round++) {
        SIMD
        for (int lane = 0; lane < 16; lane++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0[lane], p1 = (uint64_t)0xCD9E8D57u * c2[lane];
            c0[lane] = (uint32_t)(p1 >> 32) ^ c1[lane] ^ k0;
            c1[lane] = (uint32_t)p1;
            c2[lane] = (uint32_t)(p0 >> 32) ^ c3[lane] ^ k1;
            c3[lane] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

#endif
