# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Arrays that come from outside: acquire their buffers, and raise precise errors for those that cannot be used.

Buffers are acquired as Py_buffer and not as typed memoryviews, which take several times as long and have other errors.
"""

import sys
from collections.abc import Iterator, MappingView

from cpython.buffer cimport (
    Py_buffer, PyBUF_RECORDS_RO, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

import numpy as np

cdef type ndarray = np.ndarray
cdef char NATIVE_ORDER = b"<" if sys.byteorder == "little" else b">"
REAL_NAMES = ("float32", "float64")             # indexed by FASTOPT_F32, FASTOPT_F64
cdef tuple CPU_DEVICES = (1, 3, 11)             # of DLPack: the CPU, and memory of it that CUDA or ROCm has pinned


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


def check_on_cpu(array, str name):
    """Raise ``TypeError`` for an array of CuPy, JAX, MLX, PyTorch or another library that is on a GPU."""
    try:
        device = array.__dlpack_device__()[0]
    except Exception:                           # it has none, or an error of its library
        device = CPU_DEVICES[0]
    if device not in CPU_DEVICES or hasattr(array, "__cuda_array_interface__"):
        raise TypeError(f"{name} must be in the memory of the CPU, got {type(array).__name__!r} on a GPU: "
                        f"copy it to a NumPy array and use that")


def remedy(value):
    """Return how to convert a value that is not an array to arrays, as the end of an error, or '' if unknown."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        return ": pass .detach().numpy() of it, which shares its memory"
    return ": pass list(...) of it" if isinstance(value, (Iterator, MappingView)) else ""


cdef int acquire(object array, Py_buffer *view, str name, str path, bint writable, const Py_buffer *like,
                 bint any_order) except -1:
    """Acquire the buffer of a dense float32 or float64 array, or raise an error that names it.

    ``like`` is the buffer of the parameter that it belongs to, which must have the same shape and strides. Without it,
    an array must be C-contiguous unless its axes may have ``any_order``.
    """
    if type(array) is not ndarray:
        check_no_mask(array, name + path)
        if writable or not PyObject_CheckBuffer(array):  # the CPU can read the buffer of an array of MLX
            check_on_cpu(array, name + path)
    if not PyObject_CheckBuffer(array):
        if not hasattr(array, "__array_interface__"):
            raise TypeError(f"{name}{path} must be an array (something with the buffer protocol or "
                            f"__array_interface__), got {type(array).__name__!r}{remedy(array)}")
        try:
            array = np.asarray(array)
        except (AttributeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}{path} must have a valid __array_interface__: {error}") from None
    try:
        PyObject_GetBuffer(array, view, PyBUF_RECORDS_RO)
    except (BufferError, ValueError) as error:
        check_on_cpu(array, name + path)
        dtype = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name}{path} must have dtype float32 or float64, got {dtype} ({error})") from None
    if like != NULL and fits(view, like) and not (writable and view.readonly):
        return 0                                # fast: the checks below take longer
    try:
        check_buffer(array, view, name, path, writable, like, any_order)
    except BaseException:
        PyBuffer_Release(view)
        raise


cdef bint fits(const Py_buffer *view, const Py_buffer *like) noexcept:
    """Return whether an array has the type, shape and strides of a valid one, and is aligned."""
    cdef int axis
    if view.ndim != like.ndim or real_of(view) != real_of(like) or <uintptr_t>view.buf % view.itemsize != 0:
        return False
    for axis in range(view.ndim):
        if view.shape[axis] != like.shape[axis] or view.strides[axis] != like.strides[axis]:
            return False
    return True


cdef int check_buffer(object array, const Py_buffer *view, str name, str path, bint writable,
                      const Py_buffer *like, bint any_order) except -1:
    cdef int real = real_of(view)
    if real < 0 or (like != NULL and real != real_of(like)):
        expected = "float32 or float64" if like == NULL else f"{REAL_NAMES[real_of(like)]} as its parameter"
        raise TypeError(f"{name}{path} must have dtype {expected}, got {dtype_name(array, view)}"
                        f"{conversion(name, path, like)}")
    if like != NULL and (view.ndim != like.ndim or (
            view.ndim and memcmp(view.shape, like.shape, view.ndim * sizeof(Py_ssize_t)) != 0)):
        raise ValueError(f"{name}{path} must have shape {shape_of(like)} as its parameter, got {shape_of(view)}")
    if not (is_dense(view, any_order) if like == NULL else same_strides(view, like)):
        expected = "contiguous, with its axes in any order" if like == NULL and any_order else "C-contiguous"
        if like != NULL and not PyBuffer_IsContiguous(like, b"C"):
            expected = f"laid out as its parameter, with strides {strides_of(like)} bytes"
        raise ValueError(f"{name}{path} must be {expected}, got shape {shape_of(view)} with strides "
                         f"{strides_of(view)} bytes{conversion(name, path, like)}")
    if <uintptr_t>view.buf % view.itemsize != 0 and view.len:
        raise ValueError(f"{name}{path} must be aligned to {view.itemsize} bytes, got address "
                         f"{<uintptr_t>view.buf:#x}")
    if writable and view.readonly:
        raise ValueError(f"{name}{path} must be writable, got a read-only array{copy_of(array)}")


cdef str copy_of(array):
    """Return the end of an error for an array of a library whose arrays can't be changed, such as JAX, or ''."""
    own = not isinstance(array, (np.ndarray, np.generic)) and hasattr(array, "__dlpack_device__")
    return f" ({type(array).__name__!r}): pass a copy, np.array(...) of it" if own else ""


cdef str conversion(str name, str path, const Py_buffer *like):
    """Return the end of an error: how to convert an array to the dtype and the strides of its parameter."""
    if like == NULL:
        return ""
    function = "ascontiguousarray" if PyBuffer_IsContiguous(like, b"C") else "asfortranarray"
    option = ", or convert_grads=True to the optimizer" if name == "grads" else ""
    if not PyBuffer_IsContiguous(like, b"A"):
        return f": pass a copy in np.empty_like(parameter){option}"
    return f": pass np.{function}({name}{path}, dtype=np.{REAL_NAMES[real_of(like)]}){option}"


cdef tuple strides_of(const Py_buffer *view):
    return tuple([view.strides[i] for i in range(view.ndim)])


cdef bint is_dense(const Py_buffer *view, bint any_order) noexcept:
    """Return whether an array is C-contiguous, or with ``any_order`` whether some order of its axes is."""
    cdef Py_ssize_t filled = view.itemsize      # bytes that the axes found so far fill
    cdef int axis
    if not any_order or PyBuffer_IsContiguous(view, b"C"):
        return PyBuffer_IsContiguous(view, b"C")
    while filled < view.len:
        for axis in range(view.ndim):
            if view.strides[axis] == filled and view.shape[axis] > 1:
                filled *= view.shape[axis]
                break
        else:
            return False
    return True


cdef bint same_strides(const Py_buffer *view, const Py_buffer *like) noexcept:
    """Return whether two arrays of the same shape and dtype have their elements in the same order in memory."""
    cdef int axis
    if view.ndim == 0 or view.len == 0 or memcmp(view.strides, like.strides, view.ndim * sizeof(Py_ssize_t)) == 0:
        return True
    for axis in range(view.ndim):
        if view.strides[axis] != like.strides[axis] and view.shape[axis] > 1:
            return False
    return True


def inspect_array(array, str name, str path="", bint writable=True, bint any_order=False):
    """Return the shape and the dtype's name of a float32 or float64 array that the core can use, or raise."""
    cdef Py_buffer view
    acquire(array, &view, name, path, writable, NULL, any_order)
    try:
        return shape_of(&view), REAL_NAMES[real_of(&view)]
    finally:
        PyBuffer_Release(&view)


def check_current(list containers):
    """Raise ``ValueError`` if a container no longer holds the items that an optimizer was made with.

    Each is ``(container, keys, items, size, path)``: ``size`` is the number of items, or -1 if it does not matter.
    """
    cdef dict mapping
    cdef list array_list
    cdef tuple keys, items
    cdef Py_ssize_t i, size
    cdef PyObject *item
    for container, keys, items, size, path in containers:
        if size >= 0 and len(container) != size:
            hint = " or use add_param_group" if len(container) > size else ""
            raise ValueError(f"params{path} must have the {size} items that the optimizer was made with, "
                             f"got {len(container)}: make a new optimizer{hint}")
        if type(container) is dict:
            mapping = container
            for i in range(len(keys)):
                item = PyDict_GetItem(mapping, keys[i])
                if item != <PyObject *>items[i]:
                    raise_stale(path, keys[i], item != NULL, items[i])
        elif type(container) is list:
            array_list = container
            for i in range(len(keys)):
                if array_list[i] is not items[i]:
                    raise_stale(path, keys[i], True, items[i])
        else:
            for i in range(len(keys)):
                try:
                    same = container[keys[i]] is items[i]
                except LookupError:
                    raise_stale(path, keys[i], False, items[i])
                if not same:
                    raise_stale(path, keys[i], True, items[i])


cdef int raise_stale(str path, key, bint is_there, item) except -1:
    where = f"params{path}[{key!r}]"
    got = "another one" if is_there else "nothing"
    remedy = "" if isinstance(item, (dict, list, tuple)) else f"write into the array ({where}[...] = ...), or "
    raise ValueError(f"{where} must be the object that the optimizer was made with, got {got}: "
                     f"{remedy}make a new optimizer")


def check_no_overlap(list arrays, list names):
    """Raise ``ValueError`` if two of the arrays share memory."""
    cdef Py_buffer view
    spans = []
    for array, name in zip(arrays, names, strict=True):
        acquire(array, &view, name, "", False, NULL, True)
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


cdef int64_t first_nonfinite(const Py_buffer *view, int64_t begin, int64_t end) noexcept:
    """Return the index of the first element in a range that is an infinity or a NaN, or -1."""
    cdef int64_t i
    if view.itemsize == 4:
        for i in range(begin, end):
            if not isfinite((<const float *>view.buf)[i]):
                return i
    else:
        for i in range(begin, end):
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
