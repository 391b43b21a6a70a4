# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The gradients of a step: acquired, checked and converted, and their memory released at the end."""

from cpython.buffer cimport Py_buffer, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

import numpy as np

from fastopt._core.buffers cimport acquire, allocate, check_spans, same_strides, shape_of, span_of
from fastopt._core.kernels cimport fp_env_restore, fp_env_set
from fastopt._core.step cimport FASTOPT_GRAD, fastopt_tensor
from fastopt._core.tensors cimport GroupInfo, Segment, Tensors

from fastopt._core.buffers import check_no_mask


cdef tuple bounds_of(array):
    """Return the addresses of the first byte of an array and past its last one, whatever its strides."""
    begin = end = array.__array_interface__["data"][0]
    for size, stride in zip(array.shape, array.strides):
        begin, end = min(begin, begin + (size - 1) * stride), max(end, end + (size - 1) * stride)
    return begin, end + array.itemsize if array.size else begin


cdef class Gradients(Tensors):
    """Tensors and the gradients that a step binds to them.

    ``groups`` and ``arguments`` are those of `Tensors`. ``zeros(array)`` returns a new array with the dtype and the
    layout of another one. With ``convert_grads``, gradients of another dtype or layout are copied into such arrays.

    With ``takes_addresses``, an int stands for a gradient with the dtype and the layout of its parameter at that
    address. The caller has checked that and keeps its memory alive: acquiring a buffer from a tensor of PyTorch takes
    longer than its part of the step.
    """

    def __cinit__(self, list groups, dict arguments, zeros, bint convert_grads, *more):
        self.grad_name, self.zeros, self.convert_grads = arguments.get("grad", "grad"), zeros, convert_grads
        self.grads = <Py_buffer *>allocate(self.tensor_count, sizeof(Py_buffer))
        self.converted, self.originals = [None] * self.tensor_count, []

    def __dealloc__(self):
        free(self.grads)

    cdef int bind(self, list grads, bytes skip) except -1:
        """Acquire the gradients, check that they overlap nothing that a step writes, and cut what takes part."""
        cdef const unsigned char *flags = NULL
        cdef Py_ssize_t i, s
        cdef fastopt_tensor *tensor
        cdef GroupInfo info
        cdef void *memory
        cdef uintptr_t address
        cdef bint same = self.grads_known
        if len(grads) != self.tensor_count:
            raise ValueError(f"{self.grad_name} must have {self.tensor_count} arrays, got {len(grads)}")
        self.grads_known = False
        if skip is not None:
            flags = skip
        for i in range(self.tensor_count):
            tensor, memory, grad = &self.tensors[i], NULL, grads[i]
            if self.takes_addresses and type(grad) is int:
                memory = <void *><uintptr_t>grad
                self.grads[i].buf = memory      # its obj stays NULL, so nothing is released
                self.grads[i].len, self.grads[i].itemsize = self.params[i].len, self.params[i].itemsize
            elif grad is not None:
                if self.convert_grads:
                    grad = self.convert(i, grad)
                acquire(grad, &self.grads[i], self.grad_name, self.paths[i], self.zero_grads, &self.params[i], True)
                memory = self.grads[i].buf
            else:
                self.grads[i].len = 0           # of the last one
            self.bound_count += 1
            for s in range(self.first_segments[i], self.first_segments[i + 1]):
                self.active[s] = grad is not None and (flags == NULL or not flags[s])
            if not same or tensor.operands[FASTOPT_GRAD] != memory:
                same = False
                info = self.infos[self.tensor_groups[i]]
                for operand in info.grad_operands:
                    tensor.operands[<Py_ssize_t>operand] = memory
        if not same:
            spans = []
            for i in range(self.tensor_count):
                address = <uintptr_t>self.grads[i].buf
                self.check_apart(address, address + self.grads[i].len, self.paths[i])
                if self.zero_grads and self.grads[i].len:
                    spans.append(span_of(&self.grads[i], self.grad_name + self.paths[i]))
            check_spans(spans)
        self.grads_known = True
        if (memcmp(self.active, self.cut_active, self.segment_count) != 0 or memcmp(
                self.missed_steps, self.cut_missed, self.segment_count * sizeof(int64_t)) != 0):
            self.cut()

    cdef object convert(self, Py_ssize_t i, grad):
        """Return a gradient with the dtype and the layout of its parameter, copied if it has others."""
        cdef Py_buffer view
        cdef uint64_t before
        name = self.grad_name + self.paths[i]
        check_no_mask(grad, name)
        try:
            array = np.asarray(grad)
        except (RuntimeError, TypeError, ValueError) as error:  # of ragged lists, or of PyTorch
            raise TypeError(f"{name} must be an array of real numbers, got {type(grad).__name__!r}: {error}") from None
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
        if array.shape != shape_of(&self.params[i]):
            raise ValueError(f"{name} must have shape {shape_of(&self.params[i])} as its parameter, got {array.shape}")
        if self.zero_grads and (array is not grad and array.base is None or not array.flags.writeable):
            got = "a read-only array" if isinstance(grad, np.ndarray) else repr(type(grad).__name__)
            raise ValueError(f"{name} must be a writable array to be set to zero, got {got}")
        if array.dtype.char in "fd" and array.dtype.isnative and array.flags.aligned:
            PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
            fits = array.itemsize == self.params[i].itemsize and same_strides(&view, &self.params[i])
            PyBuffer_Release(&view)
            if fits:
                return array
        if self.zero_grads:                     # the array itself is written, too
            begin, end = bounds_of(array)
            self.check_apart(begin, end, self.paths[i])
            self.originals.append(array)
        if self.converted[i] is None:
            self.converted[i] = self.zeros(<object>self.params[i].obj)
        before = fp_env_set()
        try:
            with np.errstate(all="ignore"):     # a value beyond float32 is infinite
                np.copyto(self.converted[i], array, casting="same_kind")
        finally:
            fp_env_restore(before)
        return self.converted[i]

    cdef int check_apart(self, uintptr_t begin, uintptr_t end, str path) except -1:
        """Raise if the memory of a gradient overlaps memory that a step writes."""
        cdef Py_ssize_t low = 0, high = len(self.span_names), middle
        while low < high:                       # search the first span that ends after begin
            middle = (low + high) // 2
            if self.spans[middle].end > begin:
                high = middle
            else:
                low = middle + 1
        if low < len(self.span_names) and self.spans[low].begin < end and begin < end:
            raise ValueError(f"{self.grad_name}{path} and {self.span_names[low]} overlap in memory")

    cdef int release(self) except -1:
        while self.bound_count:
            self.bound_count -= 1
            PyBuffer_Release(&self.grads[self.bound_count])  # does nothing for a tensor that was left out
        if self.convert_grads:
            self.originals.clear()

    cdef int zero_left_out(self) except -1:
        """Set gradients to zero that were passed, but not read by the kernels."""
        cdef Py_ssize_t s
        cdef const Segment *segment
        cdef Py_buffer *grad
        for s in range(self.segment_count if self.leaves_out else 0):
            segment = &self.segments[s]
            grad = &self.grads[segment.tensor]
            if not self.active[s] and grad.len:
                memset(<char *>grad.buf + segment.begin * grad.itemsize, 0,
                       (segment.end - segment.begin) * grad.itemsize)
        for array in self.originals:
            array[...] = 0
