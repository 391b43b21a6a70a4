/* The memory wall: the seven streams of Adam (parameter, gradient and two states in; all but the gradient out) with
 * trivial arithmetic, over a list of tensors: a yardstick, as plain as loops of streams get. */
#include <stdint.h>

void wall(float *const *p, float *const *g, float *const *m, float *const *v, const int64_t *sizes, int64_t count,
          int threads) {
    int64_t total = 0;
    for (int64_t t = 0; t < count; t++)
        total += sizes[t];
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) { /* a thread's share, whatever tensors it lies in */
        const int64_t begin = total * part / threads, end = total * (part + 1) / threads;
        int64_t first = 0;
        for (int64_t t = 0; t < count; first += sizes[t++]) {
            const int64_t from = begin > first ? begin - first : 0;
            const int64_t to = end - first < sizes[t] ? end - first : sizes[t];
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
