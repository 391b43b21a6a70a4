# Ops: losses, layers and augmentation, on arrays that the caller has checked. A part of _kernels.pyx.

cdef struct OpCall:
    fastopt_op *op
    fastopt_argument arguments[FASTOPT_MAX_ARGUMENTS]
    int64_t count
    int64_t chunk
    double *sums

cdef dict op_tuners = {}                        # by name, size and threads: calls of similar size share a choice


cdef void run_op_on_chunk(const void *context, int64_t i) noexcept nogil:
    cdef const OpCall *call = <const OpCall *>context
    cdef uint64_t before = fp_env_set()
    cdef int64_t begin = i * call.chunk
    call.sums[i] = call.op(call.arguments, begin, min(begin + call.chunk, call.count))
    fp_env_restore(before)


def overlap(array, dict others):
    """Return the name of the first C-contiguous array (or None) that shares memory with ``array``, or None."""
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
    """Return the number of labels that are not ``ignore_index``, or -1 - i if the i-th is the first invalid one."""
    cdef int64_t i, size = labels.shape[0]
    cdef fastopt_argument arguments[3]          # as in csrc/ops.def
    cdef double counted
    arguments[0].array = <void *>&labels[0] if size else NULL
    arguments[1].integer = classes
    arguments[2].integer = ignore_index
    counted = table.ops[FASTOPT_F64][FASTOPT_OP_count_labels](arguments, 0, size)
    if counted >= 0:
        return <int64_t>counted
    for i in range(size):
        if labels[i] != ignore_index and not 0 <= labels[i] < classes:
            return -1 - i


def run(str name, dict arguments, int64_t count, int64_t chunk, int64_t work):
    """Run an op over ``count`` elements or rows and return its sum, added up in the order of the chunks.

    ``arguments`` holds all arguments of the op by name: contiguous arrays (or None) and numbers. The op is the one for
    float64 if ``x`` has items of 8 bytes. A chunk has ``chunk`` elements or rows, independent of the number of threads.
    ``work`` is about the number of elements.
    """
    cdef OpCall call
    cdef Py_buffer views[FASTOPT_MAX_ARGUMENTS]
    cdef int64_t chunks = (count + chunk - 1) // chunk, spin, i
    cdef int held = 0, place = 0, threads
    cdef double begin = 0.0, total = 0.0
    cdef Tuner tuner = None
    cdef uint64_t before
    cdef fastopt_argument *slot
    cdef int index = OPS[name].index
    cdef dict kinds = OPS[name].arguments
    if arguments.keys() != kinds.keys():
        raise TypeError(f"op {name!r} must get the arguments {', '.join(kinds)}, got {', '.join(arguments)}")
    call.op = table.ops[FASTOPT_F64 if arguments["x"].itemsize == 8 else FASTOPT_F32][index]
    call.count, call.chunk, call.sums = count, chunk, NULL
    try:
        for argument in kinds:
            value, slot = arguments[argument], &call.arguments[place]
            kind = fastopt_op_infos[index].arguments[place].kind
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
        threads, spin = <int>min(limited(fixed_threads or most_threads), max(chunks, 1)), 0
        if fixed_threads == 0 and threads > 1:
            key = name, (<object>work).bit_length(), threads
            tuner = op_tuners.get(key) or op_tuners.setdefault(key, Tuner())
            begin = seconds()
            tuner.ask(threads)
            threads, spin = tuner.threads, tuner.spin()
        with nogil:
            fastopt_share(run_op_on_chunk, &call, chunks, threads, spin)
        if tuner is not None:
            tuner.tell(begin, seconds())
        before = fp_env_set()
        for i in range(chunks):
            total += call.sums[i]
        fp_env_restore(before)
        return total
    finally:
        free(call.sums)
        for place in range(held):
            PyBuffer_Release(&views[place])
