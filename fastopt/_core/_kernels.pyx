# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The core: checked buffers come in, one loop over cache-sized chunks, which threads share, calls the C kernels.

Here is what there is to call; the parts of the module follow at the end, each resting on those before:
``_chunks.pxi`` what a step works on; ``_threads.pxi`` on how many threads; ``_buffers.pxi`` what is
asked of an array; ``_plan.pxi`` the plan of a step, which brings them together; ``_ops.pxi`` what is not a step.
"""

import sys
from collections import namedtuple

from cpython.buffer cimport (
    Py_buffer, PyBUF_RECORDS_RO, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from libc.math cimport ceil, isfinite, isinf, sqrt
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import numpy as np

cdef extern from "fastopt.h" nogil:
    int FASTOPT_CHUNK, FASTOPT_F32, FASTOPT_F64, FASTOPT_KERNELS, FASTOPT_OPS
    int FASTOPT_OP_add, FASTOPT_OP_count_labels
    const char *FASTOPT_COMPILER
    enum:
        FASTOPT_MAX_ARGUMENTS

    union fastopt_argument:
        void *array
        double real_number
        int64_t integer
        uint64_t unsigned_integer
    ctypedef void fastopt_kernel(void *const *, const void *, int64_t, int64_t) noexcept
    ctypedef double fastopt_op(const fastopt_argument *, int64_t, int64_t) noexcept
    ctypedef double fastopt_reduction(const void *, int64_t, int64_t) noexcept

    struct fastopt_kernel_info:
        const char *name
        const char *operands
        const char *coefficients
    const fastopt_kernel_info fastopt_kernel_infos "fastopt_kernel_info"[]

    enum fastopt_kind:
        FASTOPT_REAL, FASTOPT_INT, FASTOPT_UINT
    struct fastopt_argument_info:
        const char *name
        fastopt_kind kind
    struct fastopt_op_info:
        const char *name
        fastopt_argument_info arguments[1]        # C knows the true size
    const fastopt_op_info fastopt_op_infos "fastopt_op_info"[]

    struct fastopt_table:
        const char *isa
        fastopt_kernel *kernels[2][1]           # C knows the true sizes
        fastopt_op *ops[2][1]
        fastopt_reduction *sum_squares[2]
    const fastopt_table *kernel_table(int)
    uint64_t fp_env_set()
    void fp_env_restore(uint64_t)

cdef extern from "pool.h" nogil:
    ctypedef void fastopt_body(const void *, int64_t) noexcept
    void fastopt_share(fastopt_body *, const void *, int64_t count, int threads, int64_t spin)

cdef enum:
    GRAD = 1                                    # the streams of every rule begin with param, grad
    MAX_STREAMS = 16
    MAX_STAGES = 4
    MAX_COEFFICIENTS = 32

Kernel = namedtuple("Kernel", "index operands coefficients")
Op = namedtuple("Op", "index arguments")         # arguments: their kinds by name


# What there is: kernels, instruction sets, threads ------------------------------------------------------------------

def _listed(text):
    return tuple(text.decode().split(", ")) if text else ()


cdef dict _arguments(const fastopt_argument_info *infos):
    kinds = {}
    while infos[len(kinds)].name != NULL:
        kinds[infos[len(kinds)].name.decode()] = ("in", "out", "inout", "real", "int", "uint")[infos[len(kinds)].kind]
    return kinds


KERNELS = {
    fastopt_kernel_infos[i].name.decode(): Kernel(
        i, _listed(fastopt_kernel_infos[i].operands), _listed(fastopt_kernel_infos[i].coefficients))
    for i in range(FASTOPT_KERNELS)
}
OPS = {fastopt_op_infos[i].name.decode(): Op(i, _arguments(fastopt_op_infos[i].arguments)) for i in range(FASTOPT_OPS)}
CHUNK = FASTOPT_CHUNK
COMPILER = FASTOPT_COMPILER.decode()

cdef const fastopt_table *table = kernel_table(0)


def isas():
    """The instruction sets that this machine can run, widest first."""
    cdef int i = 0
    names = []
    while kernel_table(i) != NULL:
        names.append(kernel_table(i).isa.decode())
        i += 1
    return names


def isa():
    """The instruction set in use."""
    return table.isa.decode()


def use_isa(int i):
    """Use the i-th of ``isas()``, from the next step on."""
    global table
    table = kernel_table(i)


def power(double base, int64_t exponent):
    """base**exponent by squaring: the same bits on every platform, which libm's pow does not promise."""
    cdef double result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


include "_chunks.pxi"
include "_threads.pxi"
include "_buffers.pxi"
include "_plan.pxi"
include "_ops.pxi"
