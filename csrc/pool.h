/* A thread pool that runs one parallel loop at a time. */
#ifndef FASTOPT_POOL_H
#define FASTOPT_POOL_H

#include <stdint.h>

typedef void fastopt_body(const void *context, int64_t i);

/* Call body(context, i) once for each i in [0, count), on up to `threads` threads, one of them the caller. Return when
 * all calls have returned. Workers are created when they are first needed; if the system refuses one, the loop runs on
 * fewer. After the loop, workers look for the next one for `spin` nanoseconds before they sleep. If another thread is
 * running a loop, the caller runs this one alone. Safe to call in a forked child. */
typedef void fastopt_parallel_for(fastopt_body *body, const void *context, int64_t count, int threads, int64_t spin);

fastopt_parallel_for fastopt_pool_for;

#endif
