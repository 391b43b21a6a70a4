# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Ops: array functions of losses, layers and augmentation. Callers check the arrays."""

from collections import namedtuple

from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free

from fastopt._core.buffers cimport allocate
from fastopt._core.kernels cimport (
    FASTOPT_F32, FASTOPT_F64, Threads, SERIAL_BELOW, begin_parallel, end_parallel, fastopt_argument,
    fastopt_op, fp_env_restore, fp_env_set, op_info, table,
)

cdef extern from "fastopt.h" nogil:
    int FASTOPT_OPS, FASTOPT_OP_count_labels
    enum: FASTOPT_MAX_ARGUMENTS, FASTOPT_REAL, FASTOPT_INT, FASTOPT_UINT

Op = namedtuple("Op", "index arguments")        # the kinds of the arguments, by name

cdef object missing = object()
cdef tuple KINDS = ("in", "out", "inout", "real", "int", "uint")


cdef dict argument_kinds(int op):
    cdef dict kinds = {}
    while op_info(op).arguments[len(kinds)].name != NULL:
        argument = op_info(op).arguments[len(kinds)]
        kinds[argument.name.decode()] = KINDS[<int>argument.kind]
    return kinds


OPS = {op_info(i).name.decode(): Op(i, argument_kinds(i)) for i in range(FASTOPT_OPS)}

cdef struct Call:
    fastopt_op *op
    fastopt_argument arguments[FASTOPT_MAX_ARGUMENTS]
    int64_t count
    int64_t chunk
    double *sums


cdef void run_chunk(const void *context, int64_t i) noexcept nogil:
    cdef const Call *call = <const Call *>context
    cdef uint64_t before = fp_env_set()
    cdef int64_t begin = i * call.chunk
    call.sums[i] = call.op(call.arguments, begin, min(begin + call.chunk, call.count))
    fp_env_restore(before)


def count_labels(const int64_t[::1] labels, int64_t classes, int64_t ignore_index):
    """Return the number of labels that are not ``ignore_index``, or -1 - i if the i-th is the first invalid one."""
    cdef int64_t i, size = labels.shape[0]
    cdef fastopt_argument arguments[3]          # as in csrc/ops.def
    cdef double counted
    arguments[0].array = <void *>&labels[0] if size else NULL
    arguments[1].integer = classes
    arguments[2].integer = ignore_index
    counted = table().ops[FASTOPT_F64][FASTOPT_OP_count_labels](arguments, 0, size)
    if counted >= 0:
        return <int64_t>counted
    for i in range(size):
        if labels[i] != ignore_index and not 0 <= labels[i] < classes:
            return -1 - i


def run(str name, dict arguments, int64_t count, int64_t chunk, int64_t elements):
    """Run an op over ``count`` elements or rows and return its sum, added up in the order of the chunks.

    ``arguments`` holds all arguments of the op by name: contiguous arrays (or None) and numbers. The op is the one for
    float64 if ``x`` has items of 8 bytes. A chunk has ``chunk`` elements or rows, whatever the number of threads.
    """
    cdef Call call
    cdef Py_buffer views[FASTOPT_MAX_ARGUMENTS]
    cdef int64_t chunks = (count + chunk - 1) // chunk, i
    cdef int held = 0, place = 0, kind
    cdef double total = 0.0
    cdef Threads threads = begin_parallel(elements, chunks)
    cdef uint64_t before
    cdef fastopt_argument *slot
    cdef int index
    cdef dict kinds
    index, kinds = OPS[name]
    call.op = table().ops[FASTOPT_F64 if arguments["x"].itemsize == 8 else FASTOPT_F32][index]
    call.count, call.chunk, call.sums = count, chunk, NULL
    try:
        for argument in kinds:
            value, slot = arguments.get(argument, missing), &call.arguments[place]
            kind = op_info(index).arguments[place].kind
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
        with nogil:
            threads.parallel_for(run_chunk, &call, chunks, threads.count, threads.spin)
        if elements >= SERIAL_BELOW:
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
