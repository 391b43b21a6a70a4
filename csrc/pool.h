/* A few threads that share the chunks of a step. */
#ifndef FASTOPT_POOL_H
#define FASTOPT_POOL_H

#include <stdint.h>

typedef void fastopt_body(const void *context, int64_t i);

/* Call body(context, i) once for each i in [0, count), on up to `threads` threads, the caller among them. Workers look
 * for the next loop for `spin` nanoseconds before they sleep. */
void fastopt_share(fastopt_body *body, const void *context, int64_t count, int threads, int64_t spin);

#endif
