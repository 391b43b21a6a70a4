# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel tables, the instruction set in use and the number of threads.

The number of threads changes no result. It follows a rule that is right from the first call:

- A step lies between matrix products, whose threads want the same cores. Sharing it then pays from about 2^18 elements
  on: below that, waking a sleeping worker (50-100 us) costs more than the step.
- Where calls follow each other at once, the workers are still awake, and sharing pays from 2^14 elements on. After a
  short gap they therefore stay awake for another short while; after a long one they sleep, because a spinning worker
  takes a core from BLAS.

The rule replaced a tuner that measured whole iterations in the caller's loop: in loops with matrix products it was
nowhere reliably faster, and it needed 18 steps to find two threads at the size of GPT-2.
"""

from collections import namedtuple

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "fastopt.h" nogil:
    int FASTOPT_CHUNK, FASTOPT_KERNELS
    const char *FASTOPT_COMPILER

    struct fastopt_kernel_info:
        const char *name
        const char *operands
        const char *coefficients
    const fastopt_kernel_info fastopt_kernel_infos "fastopt_kernel_info"[]
    const fastopt_op_info fastopt_op_infos "fastopt_op_info"[]
    const fastopt_table *kernel_table(int)

cdef extern from "pool.h" nogil:
    fastopt_parallel_for fastopt_pool_for

Kernel = namedtuple("Kernel", "index operands coefficients")


def _names(text):
    return tuple(text.decode().split(", ")) if text else ()


KERNELS = {
    fastopt_kernel_infos[i].name.decode(): Kernel(
        i, _names(fastopt_kernel_infos[i].operands), _names(fastopt_kernel_infos[i].coefficients))
    for i in range(FASTOPT_KERNELS)
}
CHUNK = FASTOPT_CHUNK
COMPILER = FASTOPT_COMPILER.decode()


def power(double base, int64_t exponent):
    """Return base**exponent by squaring: the same bits on every platform, which libm's pow does not promise."""
    cdef double result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


# Instruction sets ---------------------------------------------------------------------------------------------------

cdef const fastopt_table *current_table = kernel_table(0)


cdef const fastopt_table *table() noexcept:
    return current_table


cdef const fastopt_op_info *op_info(int op) noexcept:
    return &fastopt_op_infos[op]


def isas():
    """Return the instruction sets that this machine can run, widest first."""
    cdef int i = 0
    names = []
    while kernel_table(i) != NULL:
        names.append(kernel_table(i).isa.decode())
        i += 1
    return names


def isa():
    """Return the instruction set in use."""
    return current_table.isa.decode()


def set_isa(int i):
    """Use the i-th of ``isas()`` from the next call on."""
    global current_table
    current_table = kernel_table(i)


# Threads ------------------------------------------------------------------------------------------------------------

cdef enum:
    PER_THREAD_AWAKE = 1 << 13                  # elements that are worth a thread whose worker is awake
    PER_THREAD_ASLEEP = 1 << 17                 # and one that has to be woken

cdef double SHORT_GAP = 20e-6                   # seconds between two calls
cdef int64_t SPIN = 50000                       # nanoseconds that workers stay awake after a short gap

cdef int fixed_threads = 0                      # the user's number, or 0: by the rule
cdef int max_threads = 1
cdef int limit = 0                              # set by threadpoolctl; 0: none
cdef bint may_spin = True
cdef double last_end = 0.0                      # of a parallel call
cdef fastopt_parallel_for *parallel_for = fastopt_pool_for


def set_threads(int fixed, int maximum):
    """Run calls on ``fixed`` threads, or with 0 on up to ``maximum`` by the rule."""
    global fixed_threads, max_threads
    fixed_threads, max_threads = fixed, maximum


def set_spinning(bint allowed):
    """Allow workers to stay awake after a call that followed another closely."""
    global may_spin
    may_spin = allowed


def set_thread_limit(int threads):
    """Use at most this number, whatever else is set; 0 removes the limit."""
    global limit
    limit = threads


cpdef int limited(int threads) noexcept:
    """Return the number of threads after the limit."""
    return min(threads, limit) if limit else threads


def set_parallel_for(capsule):
    """Run parallel loops by the function in a capsule, or with None by the pool."""
    global parallel_for
    parallel_for = fastopt_pool_for if capsule is None else (
        <fastopt_parallel_for *>PyCapsule_GetPointer(capsule, "fastopt_parallel_for"))


cdef double seconds() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef int64_t threads_for(int64_t elements, int64_t chunks, bint awake) noexcept:
    cdef int64_t threads = fixed_threads
    if threads == 0:
        threads = min(max_threads, elements // (PER_THREAD_AWAKE if awake else PER_THREAD_ASLEEP))
    return max(1, min(limited(<int>threads), chunks))


cdef Threads begin_parallel(int64_t elements, int64_t chunks) noexcept:
    """Return how a call over so many elements in so many chunks runs."""
    cdef bint awake
    if fixed_threads <= 1 and (fixed_threads == 1 or max_threads == 1 or elements < SERIAL_BELOW):
        return Threads(parallel_for, 1, 0)
    awake = may_spin and seconds() - last_end < SHORT_GAP
    return Threads(parallel_for, <int>threads_for(elements, chunks, awake), SPIN if awake else 0)


cdef int64_t spin_between_loops() noexcept:
    """Return how many nanoseconds workers stay awake after a loop that another one of the same call follows."""
    return SPIN if may_spin else 0


cdef void end_parallel() noexcept:
    """Record that a call of at least ``SERIAL_BELOW`` elements has ended."""
    global last_end
    last_end = seconds()


def thread_count(int64_t elements, int64_t chunks, bint awake=False):
    """Return the number of threads of a call between matrix products, or with ``awake`` of one that follows another."""
    return threads_for(elements, chunks, awake)
