from libc.stdint cimport int64_t

from fastopt._core.kernels cimport fastopt_hyperparameters, fastopt_parallel_for, fastopt_table

cdef extern from "step.h" nogil:
    int FASTOPT_CHUNK
    enum: FASTOPT_GRAD, FASTOPT_SCALE, FASTOPT_MAX_OPERANDS, FASTOPT_MAX_STAGES, FASTOPT_MAX_COEFFICIENTS

    struct fastopt_stage:
        int kernel, first_operand, first_coefficient

    struct fastopt_group:
        fastopt_stage stages[1]                 # C knows the true sizes
        int stage_count, coefficient_count
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

    int fastopt_set_coefficients(fastopt_group *, const fastopt_table *, const fastopt_hyperparameters *, int64_t step,
                                 bint has_f32)
    void fastopt_run_stages(const fastopt_step *)
    double fastopt_sum_squares(const fastopt_step *)
    void fastopt_accumulate(const fastopt_step *, bint first, bint zero_grads)

cdef int set_hyperparameters(fastopt_hyperparameters *h, dict values) except -1
cdef int set_coefficients(fastopt_group *group, const fastopt_hyperparameters *h, int64_t step, tuple names,
                          bint has_f32) except -1
cdef int scale_gradients(fastopt_group *group, double scale, tuple names, bint has_f32) except -1
