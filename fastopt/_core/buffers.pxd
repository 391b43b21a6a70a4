from cpython.buffer cimport Py_buffer

cdef extern from "fastopt.h":
    enum: FASTOPT_F32, FASTOPT_F64

cdef tuple REAL_NAMES

cdef int acquire(object array, Py_buffer *view, str name, str suffix, bint writable, const Py_buffer *like) except -1
cdef int real_of(const Py_buffer *view) noexcept
cdef tuple shape_of(const Py_buffer *view)
cdef int check_spans(list spans) except -1
cdef void *allocate(Py_ssize_t count, size_t size) except NULL
