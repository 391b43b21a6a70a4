# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Ops: what losses, layers and augmentation do with arrays that the caller has checked."""

from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free

from fastopt._core.buffers cimport allocate
from fastopt._core.kernels cimport (
    FASTOPT_F32, FASTOPT_F64, Threads, SERIAL_BELOW, begin_parallel, end_parallel, fastopt_task, fp_env_restore,
    fp_env_set, table,
)

from fastopt._core.kernels import TASKS

cdef extern from "fastopt.h" nogil:
    int FASTOPT_TASK_count_labels

cdef enum:
    MAX_ARRAYS = 8
    MAX_NUMBERS = 16

for _task in TASKS.values():
    if len(_task.arrays) > MAX_ARRAYS or len(_task.numbers) > MAX_NUMBERS:
        raise ImportError("an op in csrc/ops.def has too many arrays or numbers")

cdef struct Job:
    fastopt_task *task
    void *arrays[MAX_ARRAYS]
    double numbers[MAX_NUMBERS]
    int64_t count
    int64_t chunk
    double *sums


cdef void run_chunk(const void *context, int64_t i) noexcept nogil:
    cdef const Job *job = <const Job *>context
    cdef uint64_t before = fp_env_set()
    cdef int64_t begin = i * job.chunk
    job.sums[i] = job.task(job.arrays, job.numbers, begin, min(begin + job.chunk, job.count))
    fp_env_restore(before)


def count_labels(const int64_t[::1] labels, int64_t classes, int64_t ignore_index):
    """Return the number of labels that are not ``ignore_index``, or -1 - i if the i-th is the first outside [0, classes)."""
    cdef int64_t i, size = labels.shape[0]
    cdef void *array = <void *>&labels[0] if size else NULL
    cdef double numbers[2]
    cdef double counted
    numbers[0], numbers[1] = classes, ignore_index
    counted = table().tasks[FASTOPT_F64][FASTOPT_TASK_count_labels](&array, numbers, 0, size)
    if counted >= 0:
        return <int64_t>counted
    for i in range(size):
        if labels[i] != ignore_index and not 0 <= labels[i] < classes:
            return -1 - i


def run(str name, dict arrays, dict numbers, int64_t count, int64_t chunk, int64_t elements):
    """Run an op over ``count`` elements or rows and return its sum, added up in the order of the chunks.

    Arrays are contiguous, or None; the op is the one for float64 if ``x`` has this type, else for float32. A chunk has
    ``chunk`` elements or rows, whatever the number of threads.
    """
    cdef Job job
    cdef Py_buffer views[MAX_ARRAYS]
    cdef int64_t chunks = (count + chunk - 1) // chunk, i
    cdef int held = 0, place, real = FASTOPT_F64 if arrays["x"].itemsize == 8 else FASTOPT_F32
    cdef double total = 0.0
    cdef Threads threads = begin_parallel(elements, chunks)
    cdef uint64_t before
    row, wanted_arrays, wanted_numbers = TASKS[name]
    job.task, job.count, job.chunk, job.sums = table().tasks[real][<int>row], count, chunk, NULL
    try:
        for place, wanted in enumerate(wanted_arrays):
            array = arrays[wanted]
            job.arrays[place] = NULL
            if array is not None:
                PyObject_GetBuffer(array, &views[held], PyBUF_SIMPLE)
                job.arrays[place] = views[held].buf
                held += 1
        for place, wanted in enumerate(wanted_numbers):
            job.numbers[place] = numbers[wanted]
        job.sums = <double *>allocate(chunks, sizeof(double))
        with nogil:
            threads.parallel_for(run_chunk, &job, chunks, threads.count, threads.spin)
        if elements >= SERIAL_BELOW:
            end_parallel()
        before = fp_env_set()
        for i in range(chunks):
            total += job.sums[i]
        fp_env_restore(before)
        return total
    finally:
        free(job.sums)
        for place in range(held):
            PyBuffer_Release(&views[place])
