from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uintptr_t

from fastopt._core.kernels cimport fastopt_hyperparameters
from fastopt._core.step cimport fastopt_chunk, fastopt_group, fastopt_tensor

cdef struct Segment:                            # a tensor, or an array of a Flat: what a step can leave out
    Py_ssize_t tensor
    int64_t begin, end                          # elements of the tensor


cdef struct Clock:                              # of the segments of a group that have missed as many steps
    Py_ssize_t group
    int64_t missed


cdef struct Span:                               # of memory
    uintptr_t begin, end


cdef class GroupInfo:
    """Data of a parameter group that only the core uses."""

    cdef tuple names                            # of the coefficients
    cdef list operands                          # the names of those of all stages, in order
    cdef list grad_operands                     # the places of the gradient among them
    cdef dict hyperparameters                   # in which only the rate may be a function
    cdef bint has_f32


cdef class Tensors:
    cdef fastopt_group *group_stages            # of each parameter group, without coefficients
    cdef fastopt_hyperparameters *hyperparameters   # of each parameter group, in the next step
    cdef fastopt_tensor *tensors
    cdef Py_ssize_t *tensor_groups              # the number of the parameter group of each tensor
    cdef Py_ssize_t *first_segments             # of each tensor, and the number of all
    cdef Segment *segments
    cdef unsigned char *active                  # of each segment: whether it takes part
    cdef unsigned char *cut_active              # and whether it did when the chunks were cut
    cdef int64_t *cut_missed                    # and the value of `missed` then
    cdef int64_t *missed_steps                  # the contents of `missed`
    cdef Clock *clocks                          # of the segments that take part
    cdef fastopt_group *clock_groups            # of each of `clocks`, with coefficients
    cdef fastopt_chunk *chunks
    cdef double *chunk_sums
    cdef Py_buffer *held                        # parameters and states, for the life of the plan
    cdef Py_buffer *params                      # of each tensor, a copy of the one in held
    cdef Span *spans                            # that a step writes, besides gradients; by address
    cdef Py_ssize_t group_count, tensor_count, segment_count, clock_count, chunk_count, held_count
    cdef int64_t elements                       # that take part
    cdef bint zero_grads, leaves_out            # whether a segment does not take part
    cdef list infos, paths, span_names
    cdef dict arguments
    cdef readonly object missed                 # int64 array: the steps in which each segment did not take part
    cdef public bint dirty                      # whether the hyperparameters are out of date

    cdef int set_spans(self, list spans) except -1
    cdef bint bind_param(self, array) except -1
    cdef int add_group(self, Py_ssize_t g, tuple kernels) except -1
    cdef int add_tensor(self, Py_ssize_t t, Py_ssize_t g, str path, sizes, dict operands, list spans) except -1
    cdef bint is_uniform(self, Py_ssize_t t) noexcept
    cdef int cut(self) except -1
