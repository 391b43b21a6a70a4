/* The memory traffic of Adam (read parameter, gradient and two states; write all but the gradient) with trivial
 * arithmetic, over a list of tensors: the time that no implementation of large steps can beat. */
#include <stdint.h>

void memory_bound(float *const *p, float *const *g, float *const *m, float *const *v, const int64_t *sizes,
                  int64_t count, int threads) {
    int64_t total = 0;
    for (int64_t t = 0; t < count; t++)
        total += sizes[t];
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++) { /* equal shares, which may begin or end within a tensor */
        const int64_t begin = total * thread / threads, end = total * (thread + 1) / threads;
        int64_t offset = 0;
        for (int64_t t = 0; t < count; offset += sizes[t++]) {
            const int64_t from = begin > offset ? begin - offset : 0;
            const int64_t to = end - offset < sizes[t] ? end - offset : sizes[t];
#pragma omp simd
            for (int64_t i = from; i < to; i++) {
                const float x = g[t][i] * 1e-9f;
                p[t][i] += x;
                m[t][i] += x;
                v[t][i] += x;
            }
        }
    }
}
