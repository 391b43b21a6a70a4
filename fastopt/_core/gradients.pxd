from cpython.buffer cimport Py_buffer
from libc.stdint cimport uintptr_t

from fastopt._core.tensors cimport Tensors


cdef class Gradients(Tensors):
    cdef Py_buffer *grads                       # of each tensor, for the duration of a step
    cdef Py_ssize_t bound_count                 # of them
    cdef bint grads_known, convert_grads
    cdef public bint takes_addresses
    cdef str grad_name
    cdef object zeros
    cdef list converted                         # of each tensor: the array for converted gradients, or None
    cdef list originals                         # of converted gradients, for the duration of a step

    cdef int bind(self, list grads, bytes skip) except -1
    cdef object convert(self, Py_ssize_t i, grad)
    cdef int check_apart(self, uintptr_t begin, uintptr_t end, str path) except -1
    cdef int release(self) except -1
    cdef int zero_left_out(self) except -1
