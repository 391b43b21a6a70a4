# What is not a step: a loss, a layer, an augmentation, on arrays that the caller has checked. A part of _kernels.pyx.

cdef enum:
    MAX_ARRAYS = 8
    MAX_NUMBERS = 16

for _task in TASKS.values():
    if len(_task.arrays) > MAX_ARRAYS or len(_task.numbers) > MAX_NUMBERS:
        raise ImportError("a task in csrc/tasks.def has more arrays or numbers than a Job has places for")

cdef struct Job:
    fastopt_task *task
    void *arrays[MAX_ARRAYS]
    double numbers[MAX_NUMBERS]
    int64_t count
    int64_t grain
    double *sums

cdef dict task_tuners = {}                      # the choice of threads is remembered for jobs of about the same size


cdef void run_part(const void *context, int64_t i) noexcept nogil:
    cdef const Job *job = <const Job *>context
    cdef uint64_t before = fastopt_enter()
    cdef int64_t begin = i * job.grain
    job.sums[i] = job.task(job.arrays, job.numbers, begin, min(begin + job.grain, job.count))
    fastopt_leave(before)


def overlap(array, dict others):
    """Name the first of some C-contiguous arrays (or None) that shares memory with another; None if they are apart."""
    cdef Py_buffer mine, view
    cdef char *begin
    cdef char *end
    cdef bint shared
    PyObject_GetBuffer(array, &mine, PyBUF_SIMPLE)
    begin, end = <char *>mine.buf, <char *>mine.buf + mine.len
    PyBuffer_Release(&mine)
    for name, other in others.items():
        if other is not None:
            PyObject_GetBuffer(other, &view, PyBUF_SIMPLE)
            shared = <char *>view.buf < end and begin < <char *>view.buf + view.len
            PyBuffer_Release(&view)
            if shared:
                return name
    return None


def count_labels(const int64_t[::1] labels, int64_t classes, int64_t ignore_index):
    """How many labels are not ``ignore_index``; or -1 - i, where the i-th is the first that is not in [0, classes)."""
    cdef int64_t i, size = labels.shape[0]
    cdef void *array = <void *>&labels[0] if size else NULL
    cdef double numbers[2]
    cdef double counted
    numbers[0], numbers[1] = classes, ignore_index
    counted = table.tasks[FASTOPT_F64][FASTOPT_TASK_count_labels](&array, numbers, 0, size)
    if counted >= 0:
        return <int64_t>counted
    for i in range(size):
        if labels[i] != ignore_index and not 0 <= labels[i] < classes:
            return -1 - i


def run(str name, dict arrays, dict numbers, int64_t count, int64_t grain, int64_t work):
    """Run a task over ``count`` elements or rows and give its sum, added up in the order of the parts.

    Arrays are contiguous, or None; the task is that for float64 if ``x`` has such, else for float32. A part has
    ``grain`` elements or rows, whatever the number of threads. ``work`` is about how many elements there are.
    """
    cdef Job job
    cdef Py_buffer views[MAX_ARRAYS]
    cdef int64_t parts = (count + grain - 1) // grain, spin, i
    cdef int held = 0, place, threads, real = FASTOPT_F64 if arrays["x"].itemsize == 8 else FASTOPT_F32
    cdef double begin = 0.0, total = 0.0
    cdef Tuner tuner = None
    cdef uint64_t before
    row, wanted_arrays, wanted_numbers = TASKS[name]
    job.task, job.count, job.grain, job.sums = table.tasks[real][<int>row], count, grain, NULL
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
        job.sums = <double *>allocate(parts, sizeof(double))
        threads, spin = <int>min(limited(fixed_threads or most_threads), max(parts, 1)), 0
        if fixed_threads == 0 and threads > 1:
            key = name, (<object>work).bit_length(), threads
            tuner = task_tuners.get(key) or task_tuners.setdefault(key, Tuner())
            begin = seconds()
            tuner.ask(threads)
            threads, spin = tuner.threads, tuner.spin()
        with nogil:
            fastopt_share(run_part, &job, parts, threads, spin)
        if tuner is not None:
            tuner.tell(begin, seconds())
        before = fastopt_enter()
        for i in range(parts):
            total += job.sums[i]
        fastopt_leave(before)
        return total
    finally:
        free(job.sums)
        for place in range(held):
            PyBuffer_Release(&views[place])
