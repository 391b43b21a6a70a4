# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel tables, the instruction set in use, the number of threads, and the call of an op.

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

from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free

from fastopt._core.buffers cimport FASTOPT_F32, FASTOPT_F64, allocate

cdef extern from "fastopt.h" nogil:
    int FASTOPT_CHUNK, FASTOPT_KERNELS, FASTOPT_OPS, FASTOPT_OP_count_labels
    enum: FASTOPT_MAX_ARGUMENTS, FASTOPT_REAL, FASTOPT_INT, FASTOPT_UINT
    const char *FASTOPT_COMPILER

    struct fastopt_kernel_info:
        const char *name
        const char *operands
        const char *coefficients
    struct fastopt_argument_info:
        const char *name
        int kind
    struct fastopt_op_info:
        const char *name
        fastopt_argument_info arguments[1]      # C knows the true size
    const char *fastopt_hyperparameter_names
    const fastopt_kernel_info fastopt_kernel_infos "fastopt_kernel_info"[]
    const fastopt_op_info fastopt_op_infos "fastopt_op_info"[]
    const fastopt_table *kernel_table(int)

cdef extern from "pool.h" nogil:
    fastopt_parallel_for fastopt_pool_for

cdef extern from "os_threads.h" nogil:
    int64_t nanoseconds()

Kernel = namedtuple("Kernel", "index operands coefficients")
Op = namedtuple("Op", "index arguments")        # the kinds of the arguments, by name

cdef tuple KINDS = ("in", "out", "inout", "real", "int", "uint")


def _names(text):
    return tuple(text.decode().split(", ")) if text else ()


cdef dict argument_kinds(int op):
    cdef dict kinds = {}
    while fastopt_op_infos[op].arguments[len(kinds)].name != NULL:
        argument = fastopt_op_infos[op].arguments[len(kinds)]
        kinds[argument.name.decode()] = KINDS[<int>argument.kind]
    return kinds


KERNELS = {
    fastopt_kernel_infos[i].name.decode(): Kernel(
        i, _names(fastopt_kernel_infos[i].operands), _names(fastopt_kernel_infos[i].coefficients))
    for i in range(FASTOPT_KERNELS)
}
OPS = {fastopt_op_infos[i].name.decode(): Op(i, argument_kinds(i)) for i in range(FASTOPT_OPS)}
HYPERPARAMETERS = _names(fastopt_hyperparameter_names)
CHUNK = FASTOPT_CHUNK
COMPILER = FASTOPT_COMPILER.decode()


# Instruction sets ---------------------------------------------------------------------------------------------------

cdef const fastopt_table *current_table = kernel_table(0)


cdef const fastopt_table *table() noexcept:
    return current_table


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

cdef int64_t SHORT_GAP = 20000                  # nanoseconds between two calls
cdef int64_t SPIN = 50000                       # nanoseconds that workers stay awake after a short gap

cdef int fixed_threads = 0                      # the user's number, or 0: by the rule
cdef int max_threads = 1
cdef int limit = 0                              # set by threadpoolctl; 0: none
cdef bint may_spin = True
cdef int64_t last_end = 0                       # of a parallel call
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


cpdef int64_t thread_count(int64_t elements, int64_t chunks, bint awake=False) noexcept:
    """Return the number of threads of a call between matrix products, or with ``awake`` of one that follows another."""
    cdef int64_t threads = fixed_threads
    if threads == 0:
        threads = min(max_threads, elements // (PER_THREAD_AWAKE if awake else PER_THREAD_ASLEEP))
    return max(1, min(limited(<int>threads), chunks))


cdef Threads begin_parallel(int64_t elements, int64_t chunks) noexcept:
    """Return how a call over so many elements in so many chunks runs."""
    cdef bint awake
    if fixed_threads <= 1 and (fixed_threads == 1 or max_threads == 1 or elements < SERIAL_BELOW):
        return Threads(parallel_for, 1, 0)
    awake = may_spin and nanoseconds() - last_end < SHORT_GAP
    return Threads(parallel_for, <int>thread_count(elements, chunks, awake), SPIN if awake else 0)


cdef int64_t spin_between_loops() noexcept:
    """Return how many nanoseconds workers stay awake after a loop that another one of the same call follows."""
    return SPIN if may_spin else 0


cdef void end_parallel() noexcept:
    """Record that a call of at least ``SERIAL_BELOW`` elements has ended."""
    global last_end
    last_end = nanoseconds()


# Ops ----------------------------------------------------------------------------------------------------------------

cdef object missing = object()

cdef struct Call:
    fastopt_op *op
    fastopt_argument arguments[FASTOPT_MAX_ARGUMENTS]
    int64_t count, chunk
    double *sums


cdef void run_chunk(const void *context, int64_t i) noexcept nogil:
    cdef const Call *call = <const Call *>context
    cdef uint64_t before = fp_env_set()
    cdef int64_t begin = i * call.chunk
    call.sums[i] = call.op(call.arguments, begin, min(begin + call.chunk, call.count))
    fp_env_restore(before)


def count_labels(labels, int64_t classes, int64_t ignore_index):
    """Return the number of labels that are not ``ignore_index``, or -1 - i if the i-th is the first invalid one.

    ``labels`` is a C-contiguous array of int64.
    """
    cdef Py_buffer view
    cdef int64_t i, size
    cdef fastopt_argument arguments[3]          # as in csrc/ops.def
    cdef double counted
    PyObject_GetBuffer(labels, &view, PyBUF_SIMPLE)
    PyBuffer_Release(&view)                     # the caller keeps the memory
    size = view.len // sizeof(int64_t)
    arguments[0].array = view.buf
    arguments[1].integer = classes
    arguments[2].integer = ignore_index
    counted = current_table.ops[FASTOPT_F64][FASTOPT_OP_count_labels](arguments, 0, size)
    if counted >= 0:
        return <int64_t>counted
    for i in range(size):
        if (<const int64_t *>view.buf)[i] != ignore_index and not 0 <= (<const int64_t *>view.buf)[i] < classes:
            return -1 - i


def run(str name, dict arguments, int64_t count, int64_t chunk, int64_t elements):
    """Run an op over ``count`` elements or rows and return its sum, added up in the order of the chunks.

    ``arguments`` holds all arguments of the op by name: contiguous arrays (or None) and numbers. The op is the one for
    float64 if ``x`` has items of 8 bytes. A chunk has ``chunk`` elements or rows, whatever the number of threads.
    """
    cdef Call call
    cdef Py_buffer views[FASTOPT_MAX_ARGUMENTS]
    cdef int64_t chunks = (count + chunk - 1) // chunk, i
    cdef int held = 0, place = 0, kind, index
    cdef double total = 0.0
    cdef Threads threads = begin_parallel(elements, chunks)
    cdef uint64_t before
    cdef fastopt_argument *slot
    cdef dict kinds
    index, kinds = OPS[name]
    call.op = current_table.ops[FASTOPT_F64 if arguments["x"].itemsize == 8 else FASTOPT_F32][index]
    call.count, call.chunk, call.sums = count, chunk, NULL
    try:
        for argument in kinds:
            value, slot = arguments.get(argument, missing), &call.arguments[place]
            kind = fastopt_op_infos[index].arguments[place].kind
            if value is missing or len(arguments) != len(kinds):
                raise TypeError(f"op {name!r} must get the arguments {', '.join(kinds)}, got {', '.join(arguments)}")
            place += 1
            if kind == FASTOPT_REAL:
                slot.real_number = value
            elif kind == FASTOPT_INT:
                slot.integer = value
            elif kind == FASTOPT_UINT:
                slot.unsigned_integer = value
            elif value is None:
                slot.array = NULL
            else:
                PyObject_GetBuffer(value, &views[held], PyBUF_SIMPLE)
                slot.array = views[held].buf
                held += 1
        call.sums = <double *>allocate(chunks, sizeof(double))
        if elements < SERIAL_BELOW:             # shorter than releasing the GIL and taking it again
            threads.parallel_for(run_chunk, &call, chunks, threads.count, threads.spin)
        else:
            with nogil:
                threads.parallel_for(run_chunk, &call, chunks, threads.count, threads.spin)
            end_parallel()
        before = fp_env_set()
        for i in range(chunks):
            total += call.sums[i]
        fp_env_restore(before)
        return total
    finally:
        free(call.sums)
        for place in range(held):
            PyBuffer_Release(&views[place])
