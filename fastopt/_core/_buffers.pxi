# What the core asks of an array, and how it says what is wrong with one. A part of _kernels.pyx.
#
# Raw Py_buffer and not typed memoryviews: they are several times cheaper to take, and the messages can be ours.

cdef type ndarray = np.ndarray
cdef char NATIVE_ORDER = b"<" if sys.byteorder == "little" else b">"
cdef tuple REAL_NAMES = ("float32", "float64")


cdef int real_of(const Py_buffer *view) noexcept:
    """FASTOPT_F32, FASTOPT_F64, or -1 for what is neither."""
    cdef const char *code = view.format
    if code == NULL:
        return -1
    if code[0] == b"@" or code[0] == b"=" or code[0] == NATIVE_ORDER:
        code += 1
    if code[0] == b"f" and code[1] == 0:
        return FASTOPT_F32
    if code[0] == b"d" and code[1] == 0:
        return FASTOPT_F64
    return -1


def check_no_mask(array, str name):
    """Raise for a masked array, whose mask would be ignored."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; wants one without a mask, which would be ignored")


cdef str dtype_of(object array, const Py_buffer *view):
    dtype = getattr(array, "dtype", None)
    if dtype is None:
        return "'" + (view.format.decode() if view.format != NULL else "B") + "'"
    return f"{dtype.str} (byte-swapped)" if getattr(dtype, "isnative", True) is False else str(dtype)


cdef tuple shape_of(const Py_buffer *view):
    return tuple([view.shape[i] for i in range(view.ndim)])


cdef void take(object array, Py_buffer *view, str name, str suffix, bint written, const Tensor *like) except *:
    """Take the buffer of an array, or raise what is wrong with it; `like` is the tensor that it belongs to, if any."""
    if type(array) is not ndarray:
        check_no_mask(array, name + suffix)
    if not PyObject_CheckBuffer(array):
        if not hasattr(array, "__array_interface__"):
            raise TypeError(f"{name}{suffix} is {type(array).__name__!r}; wants an array: something with the buffer "
                            "protocol or __array_interface__ (anything else would have to be copied)")
        try:
            array = np.asarray(array)
        except (AttributeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}{suffix} has an __array_interface__ that NumPy refuses ({error})") from None
    try:
        PyObject_GetBuffer(array, view, PyBUF_RECORDS_RO)
    except (BufferError, ValueError) as error:
        dtype = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name}{suffix} has dtype {dtype}; wants float32 or float64 ({error})") from None
    try:
        check(array, view, name, suffix, written, like)
    except BaseException:
        PyBuffer_Release(view)
        raise


cdef void check(object array, const Py_buffer *view, str name, str suffix, bint written, const Tensor *like) except *:
    cdef int real = real_of(view)
    if real < 0 or (like != NULL and real != like.real):
        wanted = "float32 or float64" if like == NULL else f"{REAL_NAMES[like.real]}, as its parameter"
        raise TypeError(f"{name}{suffix} has dtype {dtype_of(array, view)}; wants {wanted}")
    if like != NULL and (view.ndim != like.shape.ndim or (
            view.ndim and memcmp(view.shape, like.shape.shape, view.ndim * sizeof(Py_ssize_t)) != 0)):
        raise ValueError(f"{name}{suffix} has shape {shape_of(view)}; wants {shape_of(like.shape)}, as its parameter")
    if not PyBuffer_IsContiguous(view, b"C"):
        strides = tuple([view.strides[i] for i in range(view.ndim)])
        raise ValueError(f"{name}{suffix} is not C-contiguous: shape {shape_of(view)}, strides {strides} in bytes; "
                         "wants a C-contiguous array (anything else would have to be copied)")
    if <uintptr_t>view.buf % view.itemsize != 0 and view.len:
        raise ValueError(f"{name}{suffix} is misaligned: address {<uintptr_t>view.buf:#x}; "
                         f"wants a multiple of {view.itemsize}")
    if written and view.readonly:
        raise ValueError(f"{name}{suffix} is read-only; wants an array that can be written")


def inspect_array(param, str name, str suffix, bint written=True):
    """The shape and the type of an array; raises what is wrong with it."""
    cdef Py_buffer view
    take(param, &view, name, suffix, written, NULL)
    try:
        return shape_of(&view), REAL_NAMES[real_of(&view)]
    finally:
        PyBuffer_Release(&view)


def check_no_overlap(list arrays, list names):
    """Raise for arrays, with a buffer of numbers each, of which two share memory."""
    cdef Py_buffer view
    spans = []
    for array, name in zip(arrays, names, strict=True):
        take(array, &view, name, "", False, NULL)
        if view.len:
            spans.append((<uintptr_t>view.buf, <uintptr_t>view.buf + view.len, name))
        PyBuffer_Release(&view)
    refuse_overlap(spans)


cdef void refuse_overlap(list spans) except *:
    """Sort (begin, end, label) and refuse neighbours that share memory."""
    spans.sort()
    for (_, end, label), (begin, _, other) in zip(spans, spans[1:]):
        if begin < end:
            raise ValueError(f"{label} and {other} overlap in memory; each wants memory of its own")


def put(list copies, list attributes):
    """Copy arrays, each (target, source), and set attributes, each (object, name, value).

    All of it happens or, where a buffer is not to be had, nothing: no Python code runs meanwhile, so that no signal and
    no other thread comes between. Arrays are contiguous, and no source shares memory with a target.
    """
    cdef Py_buffer *views = <Py_buffer *>allocate(2 * len(copies), sizeof(Py_buffer))
    cdef Py_ssize_t taken = 0, i
    try:
        for target, source in copies:
            PyObject_GetBuffer(target, &views[taken], PyBUF_WRITABLE)
            taken += 1
            PyObject_GetBuffer(source, &views[taken], PyBUF_SIMPLE)
            taken += 1
            if views[taken - 1].len != views[taken - 2].len:
                raise ValueError(f"{views[taken - 1].len} bytes can't be copied to {views[taken - 2].len}")
        for i in range(0, taken, 2):
            memcpy(views[i].buf, views[i + 1].buf, views[i].len)
        for thing, name, value in attributes:
            setattr(thing, name, value)
    finally:
        while taken:
            taken -= 1
            PyBuffer_Release(&views[taken])
        free(views)
