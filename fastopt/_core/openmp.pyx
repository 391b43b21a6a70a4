# cython: language_level=3, boundscheck=False, wraparound=False
"""The OpenMP threading layer: the loop of the pool, run by the compiler's OpenMP. Loaded only when it is chosen.

It serves programs that share one OpenMP runtime, and comparisons. It is not the default because OpenMP's workers
busy-wait after a loop and take the cores of the next matrix product (bench/bench_loop.py measures it).
"""

from cpython.pycapsule cimport PyCapsule_New
from cython.parallel cimport prange
from libc.stdint cimport int64_t

cdef extern from "pool.h" nogil:
    ctypedef void fastopt_body(const void *, int64_t) noexcept

cdef extern from "pthread.h" nogil:
    int pthread_atfork(void (*)() noexcept, void (*)() noexcept, void (*)() noexcept)

cdef bint forked = False                        # in a child, OpenMP would wait forever for its parent's workers


cdef void mark_forked() noexcept nogil:
    global forked
    forked = True


cdef void openmp_for(fastopt_body *body, const void *context, int64_t count, int threads, int64_t spin) noexcept nogil:
    cdef int64_t i
    if threads < 2 or forked:
        for i in range(count):
            body(context, i)
    else:
        for i in prange(count, num_threads=threads, schedule="static"):
            body(context, i)


pthread_atfork(NULL, NULL, mark_forked)
parallel_for = PyCapsule_New(<void *>openmp_for, "fastopt_parallel_for", NULL)
