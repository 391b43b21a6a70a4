from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t

cdef extern from "fastopt.h":
    enum: FASTOPT_F32, FASTOPT_F64

cdef tuple REAL_NAMES

cdef int acquire(object array, Py_buffer *view, str name, str path, bint writable, const Py_buffer *like,
                 bint any_order) except -1
cdef bint fits(const Py_buffer *view, const Py_buffer *like) noexcept
cdef int real_of(const Py_buffer *view) noexcept
cdef tuple shape_of(const Py_buffer *view)
cdef tuple span_of(const Py_buffer *view, str name)
cdef int check_spans(list spans) except -1
cdef int64_t first_nonfinite(const Py_buffer *view, int64_t begin, int64_t end) noexcept
cdef void *allocate(Py_ssize_t count, size_t size) except NULL
cdef bint same_strides(const Py_buffer *view, const Py_buffer *like) noexcept
