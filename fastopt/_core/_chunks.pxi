# What a step works on, and what happens to a chunk of it. A part of _kernels.pyx.
#
# All tensors of all groups are cut into chunks, and every stage of a step (rule, weight average, zeroing) visits a
# chunk before the next chunk starts, so each stream comes from memory once. A model of 161 small tensors is one loop
# that threads share, not 161.

cdef struct Stage:
    int kernel
    int first_stream
    int first_coefficient

cdef struct Group:                              # what its tensors share
    Stage stages[MAX_STAGES]
    int stage_count
    int scale                                   # where the coefficient of that name is
    double unclipped                            # its value before clipping
    int grads[MAX_STAGES]                       # the columns of the gradient, at most one in each stage
    int grad_count
    bint has_f32
    double f64[MAX_COEFFICIENTS]
    float f32[MAX_COEFFICIENTS]

cdef struct Tensor:
    Group *group
    int64_t size
    int real
    Py_buffer *shape                            # the parameter's buffer: what the gradient must look like
    void *streams[MAX_STREAMS]                  # the streams of all stages, one behind the other
    void *sum                                   # of the gradients of the parts of a batch

cdef struct Chunk:
    Tensor *tensor
    int64_t begin
    int64_t end

cdef struct Work:
    const fastopt_table *kernels
    const Chunk *chunks
    int64_t count
    double *partial                             # a sum for each chunk
    bint first                                  # part of a batch
    bint zeroes                                 # the gradient behind it


cdef void run_chunk(const void *context, int64_t i) noexcept nogil:
    """All stages of a step on one chunk, one behind the other."""
    cdef const Work *work = <const Work *>context
    cdef const Chunk *chunk = &work.chunks[i]
    cdef const Tensor *tensor = chunk.tensor
    cdef const Group *group = tensor.group
    cdef const Stage *stage
    cdef const void *coefficients
    cdef uint64_t before = fp_env_set()
    cdef int s
    for s in range(group.stage_count):
        stage = &group.stages[s]
        if tensor.real == FASTOPT_F32:
            coefficients = &group.f32[stage.first_coefficient]
        else:
            coefficients = &group.f64[stage.first_coefficient]
        work.kernels.kernels[tensor.real][stage.kernel](
            &tensor.streams[stage.first_stream], coefficients, chunk.begin, chunk.end)
    fp_env_restore(before)


cdef void sum_chunk(const void *context, int64_t i) noexcept nogil:
    cdef const Work *work = <const Work *>context
    cdef const Chunk *chunk = &work.chunks[i]
    cdef uint64_t before = fp_env_set()
    work.partial[i] = work.kernels.sum_squares[chunk.tensor.real](
        chunk.tensor.streams[GRAD], chunk.begin, chunk.end)
    fp_env_restore(before)


cdef void add_chunk(const void *context, int64_t i) noexcept nogil:
    """Add the gradient to what was accumulated before, if anything was."""
    cdef const Work *work = <const Work *>context
    cdef const Chunk *chunk = &work.chunks[i]
    cdef const Tensor *tensor = chunk.tensor
    cdef int64_t item = 8 if tensor.real == FASTOPT_F64 else 4
    cdef fastopt_argument arguments[2]          # as in csrc/ops.def: x, y
    cdef char *grad = <char *>tensor.streams[GRAD] + chunk.begin * item
    cdef uint64_t before = fp_env_set()
    arguments[0].array, arguments[1].array = tensor.sum, tensor.streams[GRAD]
    if work.first:
        memcpy(<char *>tensor.sum + chunk.begin * item, grad, (chunk.end - chunk.begin) * item)
    else:
        work.kernels.ops[tensor.real][FASTOPT_OP_add](arguments, chunk.begin, chunk.end)
    if work.zeroes:
        memset(grad, 0, (chunk.end - chunk.begin) * item)
    fp_env_restore(before)


cdef double total(const Work *work) noexcept nogil:
    """The sums of the chunks, in their order."""
    cdef double result = 0.0
    cdef int64_t i
    for i in range(work.count):
        result += work.partial[i]
    return result
