# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Arrays that come from outside: acquire their buffers, and raise precise errors for those that cannot be used.

Buffers are acquired as Py_buffer and not as typed memoryviews, which take several times as long and have other errors.
"""

import sys

from cpython.buffer cimport (
    Py_buffer, PyBUF_RECORDS_RO, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

import numpy as np

cdef type ndarray = np.ndarray
cdef char NATIVE_ORDER = b"<" if sys.byteorder == "little" else b">"
REAL_NAMES = ("float32", "float64")             # indexed by FASTOPT_F32, FASTOPT_F64


cdef int real_of(const Py_buffer *view) noexcept:
    """Return FASTOPT_F32 or FASTOPT_F64, or -1 for any other type."""
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


cdef str dtype_name(object array, const Py_buffer *view):
    dtype = getattr(array, "dtype", None)
    if dtype is None:
        return "'" + (view.format.decode() if view.format != NULL else "B") + "'"
    return f"{dtype.str} (byte-swapped)" if getattr(dtype, "isnative", True) is False else str(dtype)


cdef tuple shape_of(const Py_buffer *view):
    return tuple([view.shape[i] for i in range(view.ndim)])


def check_no_mask(array, str name):
    """Raise ``TypeError`` for a masked array, whose mask would be ignored."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask, got a masked array")


cdef int acquire(object array, Py_buffer *view, str name, str path, bint writable, const Py_buffer *like) except -1:
    """Acquire the buffer of a float32 or float64 array, or raise an error that names it; ``like`` is the buffer of the
    parameter that it belongs to, or NULL."""
    if type(array) is not ndarray:
        check_no_mask(array, name + path)
    if not PyObject_CheckBuffer(array):
        if not hasattr(array, "__array_interface__"):
            raise TypeError(f"{name}{path} must be an array (something with the buffer protocol or "
                            f"__array_interface__), got {type(array).__name__!r}")
        try:
            array = np.asarray(array)
        except (AttributeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}{path} must have a valid __array_interface__: {error}") from None
    try:
        PyObject_GetBuffer(array, view, PyBUF_RECORDS_RO)
    except (BufferError, ValueError) as error:
        dtype = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name}{path} must have dtype float32 or float64, got {dtype} ({error})") from None
    try:
        check_buffer(array, view, name, path, writable, like)
    except BaseException:
        PyBuffer_Release(view)
        raise


cdef int check_buffer(object array, const Py_buffer *view, str name, str path, bint writable,
                      const Py_buffer *like) except -1:
    cdef int real = real_of(view)
    if real < 0 or (like != NULL and real != real_of(like)):
        expected = "float32 or float64" if like == NULL else f"{REAL_NAMES[real_of(like)]} as its parameter"
        raise TypeError(f"{name}{path} must have dtype {expected}, got {dtype_name(array, view)}")
    if like != NULL and (view.ndim != like.ndim or (
            view.ndim and memcmp(view.shape, like.shape, view.ndim * sizeof(Py_ssize_t)) != 0)):
        raise ValueError(f"{name}{path} must have shape {shape_of(like)} as its parameter, got {shape_of(view)}")
    if not PyBuffer_IsContiguous(view, b"C"):
        strides = tuple([view.strides[i] for i in range(view.ndim)])
        raise ValueError(f"{name}{path} must be C-contiguous, got shape {shape_of(view)} with "
                         f"strides {strides} bytes")
    if <uintptr_t>view.buf % view.itemsize != 0 and view.len:
        raise ValueError(f"{name}{path} must be aligned to {view.itemsize} bytes, got address "
                         f"{<uintptr_t>view.buf:#x}")
    if writable and view.readonly:
        raise ValueError(f"{name}{path} must be writable, got a read-only array")


def inspect_array(array, str name, str path="", bint writable=True):
    """Return the shape and the dtype's name of a float32 or float64 array that the core can use, or raise."""
    cdef Py_buffer view
    acquire(array, &view, name, path, writable, NULL)
    try:
        return shape_of(&view), REAL_NAMES[real_of(&view)]
    finally:
        PyBuffer_Release(&view)


def check_no_overlap(list arrays, list names):
    """Raise ``ValueError`` if two of the arrays share memory."""
    cdef Py_buffer view
    spans = []
    for array, name in zip(arrays, names, strict=True):
        acquire(array, &view, name, "", False, NULL)
        if view.len:
            spans.append(span_of(&view, name))
        PyBuffer_Release(&view)
    check_spans(spans)


cdef tuple span_of(const Py_buffer *view, str name):
    """Return the memory of a buffer: begin, end, and a name for errors."""
    return <uintptr_t>view.buf, <uintptr_t>view.buf + view.len, name


cdef int check_spans(list spans) except -1:
    """Sort spans of memory, and raise if two overlap."""
    spans.sort()
    for (_, end, name), (begin, _, other) in zip(spans, spans[1:]):
        if begin < end:
            raise ValueError(f"{name} and {other} overlap in memory")


def first_overlap(array, dict others, bint may_equal=False):
    """Return the name of the first of some C-contiguous arrays (or None) that shares memory with ``array``, or None.

    With ``may_equal``, arrays may occupy exactly the same memory.
    """
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
            shared = <char *>view.buf < end and begin < <char *>view.buf + view.len and begin < end
            if may_equal and view.buf == begin and view.len == end - begin:
                shared = False
            PyBuffer_Release(&view)
            if shared:
                return name
    return None


cdef int64_t first_nonfinite(const Py_buffer *view) noexcept:
    """Return the index of the first element that is an infinity or a NaN, or -1."""
    cdef int64_t i
    if view.itemsize == 4:
        for i in range(view.len // 4):
            if not isfinite((<const float *>view.buf)[i]):
                return i
    else:
        for i in range(view.len // 8):
            if not isfinite((<const double *>view.buf)[i]):
                return i
    return -1


def commit(list copies, list updates):
    """Copy arrays, each (target, source), and update dictionaries, each (target, source).

    All of it happens or, if a buffer cannot be acquired, none: no Python code runs in between, so neither a signal nor
    another thread can interrupt it. Arrays are contiguous, and no source shares memory with a target.
    """
    cdef Py_buffer *views = <Py_buffer *>allocate(2 * len(copies), sizeof(Py_buffer))
    cdef Py_ssize_t acquired = 0, i
    cdef dict mapping
    try:
        for target, source in copies:
            PyObject_GetBuffer(target, &views[acquired], PyBUF_WRITABLE)
            acquired += 1
            PyObject_GetBuffer(source, &views[acquired], PyBUF_SIMPLE)
            acquired += 1
            if views[acquired - 1].len != views[acquired - 2].len:
                raise ValueError(f"a target of {views[acquired - 2].len} bytes must have a source of as many, "
                                 f"got {views[acquired - 1].len}")
        for i in range(0, acquired, 2):
            memcpy(views[i].buf, views[i + 1].buf, views[i].len)
        for mapping, changes in updates:
            mapping.update(<dict>changes)
    finally:
        while acquired:
            acquired -= 1
            PyBuffer_Release(&views[acquired])
        free(views)


cdef void *allocate(Py_ssize_t count, size_t size) except NULL:
    """Return zeroed memory, of at least one item."""
    cdef void *memory = calloc(max(count, 1), size)
    if memory == NULL:
        raise MemoryError
    return memory
