# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The core: checked buffers come in, one loop over cache-sized chunks, which threads share, calls the C kernels.

Here is what there is to call; the parts of the module follow at the end, each resting on those before:
``_chunks.pxi`` what a step works on; ``_threads.pxi`` on how many threads; ``_buffers.pxi`` what is
asked of an array; ``_plan.pxi`` the plan of a step, which brings them together; ``_tasks.pxi`` what is not a step.
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
    int FASTOPT_CHUNK, FASTOPT_F32, FASTOPT_F64, FASTOPT_KERNELS
    int FASTOPT_TASKS, FASTOPT_TASK_add, FASTOPT_TASK_count_labels
    const char *FASTOPT_COMPILER
    ctypedef void fastopt_kernel(void *const *, const void *, int64_t, int64_t) noexcept
    ctypedef double fastopt_reduction(const void *, int64_t, int64_t) noexcept
    ctypedef double fastopt_task(void *const *, const double *, int64_t, int64_t) noexcept

    struct fastopt_kernel_info:
        const char *name
        const char *streams
        const char *coefficients
    const fastopt_kernel_info fastopt_kernel_infos "fastopt_kernel_info"[]

    struct fastopt_task_info:
        const char *name
        const char *arrays
        const char *numbers
    const fastopt_task_info fastopt_task_infos "fastopt_task_info"[]

    struct fastopt_table:
        const char *isa
        fastopt_kernel *kernels[2][1]           # C knows the true sizes
        fastopt_task *tasks[2][1]
        fastopt_reduction *sum_squares[2]
    const fastopt_table *fastopt_pick_table(int)
    uint64_t fastopt_enter()
    void fastopt_leave(uint64_t)

cdef extern from "pool.h" nogil:
    ctypedef void fastopt_body(const void *, int64_t) noexcept
    void fastopt_share(fastopt_body *, const void *, int64_t count, int threads, int64_t spin)

cdef enum:
    GRAD = 1                                    # the streams of every rule begin with param, grad
    MAX_STREAMS = 16
    MAX_STAGES = 4
    MAX_COEFFICIENTS = 32

Kernel = namedtuple("Kernel", "row streams coefficients")
Task = namedtuple("Task", "row arrays numbers")


# What there is: kernels, instruction sets, threads ------------------------------------------------------------------

def _listed(text):
    return tuple(text.decode().split(", ")) if text else ()


KERNELS = {
    fastopt_kernel_infos[i].name.decode(): Kernel(
        i, _listed(fastopt_kernel_infos[i].streams), _listed(fastopt_kernel_infos[i].coefficients))
    for i in range(FASTOPT_KERNELS)
}
TASKS = {
    fastopt_task_infos[i].name.decode(): Task(
        i, _listed(fastopt_task_infos[i].arrays), _listed(fastopt_task_infos[i].numbers))
    for i in range(FASTOPT_TASKS)
}
CHUNK = FASTOPT_CHUNK
COMPILER = FASTOPT_COMPILER.decode()

cdef const fastopt_table *table = fastopt_pick_table(0)


def isas():
    """The instruction sets that this machine can run, widest first."""
    cdef int i = 0
    names = []
    while fastopt_pick_table(i) != NULL:
        names.append(fastopt_pick_table(i).isa.decode())
        i += 1
    return names


def isa():
    """The instruction set in use."""
    return table.isa.decode()


def use_isa(int i):
    """Use the i-th of ``isas()``, from the next step on."""
    global table
    table = fastopt_pick_table(i)


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
include "_tasks.pxi"
