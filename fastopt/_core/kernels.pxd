from libc.stdint cimport int64_t, uint64_t

cdef extern from "fastopt.h" nogil:
    union fastopt_argument:
        void *array
        double real_number
        int64_t integer
        uint64_t unsigned_integer
    ctypedef double fastopt_op(const fastopt_argument *, int64_t, int64_t) noexcept
    struct fastopt_hyperparameters:             # doubles
        double lr, ema_decay                    # and others
    struct fastopt_table:
        const char *isa
        fastopt_op *ops[2][1]                   # C knows the true sizes
    uint64_t fp_env_set()
    void fp_env_restore(uint64_t)

cdef extern from "pool.h" nogil:
    ctypedef void fastopt_body(const void *, int64_t) noexcept
    ctypedef void fastopt_parallel_for(
        fastopt_body *, const void *, int64_t count, int threads, int64_t spin) noexcept

cdef enum:
    SERIAL_BELOW = 1 << 14                      # elements

cdef struct Threads:
    fastopt_parallel_for *parallel_for
    int count
    int64_t spin                                # nanoseconds

cdef const fastopt_table *table() noexcept
cdef Threads begin_parallel(int64_t elements, int64_t chunks) noexcept
cdef void end_parallel() noexcept
cdef int64_t spin_between_loops() noexcept
