from libc.stdint cimport int64_t

from fastopt._core.kernels cimport fastopt_parallel_for, fastopt_table

cdef extern from "step.h" nogil:
    int FASTOPT_CHUNK
    enum: FASTOPT_GRAD, FASTOPT_MAX_OPERANDS, FASTOPT_MAX_STAGES, FASTOPT_MAX_COEFFICIENTS

    struct fastopt_stage:
        int kernel, first_operand, first_coefficient

    struct fastopt_group:
        fastopt_stage stages[1]                 # C knows the true sizes
        int stage_count
        double f64[1]
        float f32[1]

    struct fastopt_tensor:
        int64_t size
        int real
        void *operands[1]
        void *grad_sum

    struct fastopt_chunk:
        const fastopt_tensor *tensor
        const fastopt_group *group
        int64_t begin, end

    struct fastopt_step:
        const fastopt_table *table
        fastopt_parallel_for *parallel_for
        int threads
        int64_t spin
        const fastopt_chunk *chunks
        int64_t chunk_count
        double *chunk_sums

    void fastopt_run_stages(const fastopt_step *)
    double fastopt_sum_squares(const fastopt_step *)
    void fastopt_accumulate(const fastopt_step *, bint first, bint zero_grads)

cdef int check_coefficient(const fastopt_group *group, Py_ssize_t i, dict index, bint has_f32) except -1
