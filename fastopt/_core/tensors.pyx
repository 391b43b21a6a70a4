# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The arrays of a step: checked and held once, and cut into chunks whenever other ones take part.

A tensor can be left out of a step, and so can each array of a ``Flat``, which is one tensor: these are the *segments*.
Each counts the steps that it has missed, so that bias corrections follow its own number of steps. Segments of a group
that have missed as many steps share their coefficients, and a ``Flat`` whose segments all do is cut as one array. A
model without frozen arrays therefore costs nothing more.
"""

from cpython.buffer cimport Py_buffer, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import numpy as np

from fastopt._core.buffers cimport FASTOPT_F32, acquire, allocate, check_spans, fits, real_of, span_of
from fastopt._core.kernels cimport fastopt_hyperparameters
from fastopt._core.step cimport (
    FASTOPT_MAX_COEFFICIENTS, FASTOPT_MAX_OPERANDS, FASTOPT_MAX_STAGES, fastopt_chunk, fastopt_group, fastopt_stage,
    fastopt_tensor, set_hyperparameters,
)

from fastopt._core.kernels import CHUNK, KERNELS


cdef class Tensors:
    """Parameters and states, checked, held and cut into chunks.

    ``groups`` is a list of ``(kernels, tensors)``: the names of the kernels that run on each chunk, one after the
    other, and for each tensor ``(path, sizes, {operand: array})`` with the sizes of its segments, or None for one, and
    all operands but ``grad``. ``arguments`` maps an operand to the user's name for it; with the path it names an array
    in messages: ``params['w1']``.
    """

    def __cinit__(self, list groups, dict arguments, *more):
        cdef Py_ssize_t g, t = 0
        cdef Py_buffer view
        self.arguments, self.infos, self.paths, self.dirty = arguments, [], [], True
        self.group_count = len(groups)
        self.tensor_count = sum([len(tensors) for _, tensors in groups])
        self.segment_count = sum([1 if sizes is None else len(sizes) for _, ts in groups for _, sizes, _ in ts])
        self.group_stages = <fastopt_group *>allocate(self.group_count, sizeof(fastopt_group))
        self.hyperparameters = <fastopt_hyperparameters *>allocate(self.group_count, sizeof(fastopt_hyperparameters))
        self.tensors = <fastopt_tensor *>allocate(self.tensor_count, sizeof(fastopt_tensor))
        self.tensor_groups = <Py_ssize_t *>allocate(self.tensor_count, sizeof(Py_ssize_t))
        self.first_segments = <Py_ssize_t *>allocate(self.tensor_count + 1, sizeof(Py_ssize_t))
        self.segments = <Segment *>allocate(self.segment_count, sizeof(Segment))
        self.active = <unsigned char *>allocate(self.segment_count, 1)
        self.cut_active = <unsigned char *>allocate(self.segment_count, 1)
        self.cut_missed = <int64_t *>allocate(self.segment_count, sizeof(int64_t))
        self.params = <Py_buffer *>allocate(self.tensor_count, sizeof(Py_buffer))
        self.held = <Py_buffer *>allocate(self.tensor_count * FASTOPT_MAX_OPERANDS, sizeof(Py_buffer))
        self.missed = np.zeros(self.segment_count, np.int64)
        PyObject_GetBuffer(self.missed, &view, PyBUF_WRITABLE)
        self.missed_steps = <int64_t *>view.buf
        PyBuffer_Release(&view)                 # self.missed keeps the memory
        spans = []
        for g in range(self.group_count):
            kernels, tensors = groups[g]
            self.add_group(g, kernels)
            for path, sizes, operands in tensors:
                self.add_tensor(t, g, path, sizes, operands, spans)
                t += 1
        self.set_spans(spans)
        memset(self.active, 1, self.segment_count)
        self.cut()

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.held_count):
            PyBuffer_Release(&self.held[i])
        free(self.group_stages)
        free(self.hyperparameters)
        free(self.tensors)
        free(self.tensor_groups)
        free(self.first_segments)
        free(self.segments)
        free(self.active)
        free(self.cut_active)
        free(self.cut_missed)
        free(self.clocks)
        free(self.clock_groups)
        free(self.chunks)
        free(self.chunk_sums)
        free(self.held)
        free(self.params)
        free(self.spans)

    cdef int set_spans(self, list spans) except -1:
        """Record the memory that steps write, or raise if two arrays overlap."""
        cdef Py_ssize_t i
        cdef Span *own
        check_spans(spans)
        own = <Span *>allocate(len(spans), sizeof(Span))
        for i in range(len(spans)):
            own[i] = Span(spans[i][0], spans[i][1])
        free(self.spans)
        self.spans, self.span_names = own, [name for _, _, name in spans]

    cdef bint bind_param(self, array) except -1:
        """Update another ndarray from now on, if there is one tensor; return False if its layout is another one."""
        cdef Py_buffer view
        cdef Py_ssize_t i
        cdef GroupInfo info = self.infos[0]
        cdef str argument = self.arguments.get("param", "param")
        name = argument + self.paths[0]
        acquire(array, &view, argument, self.paths[0], True, NULL, True)
        try:
            if not fits(&view, self.params):
                PyBuffer_Release(&view)
                return False
            if view.buf != self.params.buf:
                spans = [(self.spans[i].begin, self.spans[i].end, own) for i, own in enumerate(self.span_names)
                         if own != name]
                if view.len:
                    spans.append(span_of(&view, name))
                self.set_spans(spans)
        except BaseException:
            PyBuffer_Release(&view)
            raise
        PyBuffer_Release(self.held)             # that of the old array, which was acquired first
        self.held[0] = self.params[0] = view
        for i, operand in enumerate(info.operands):
            if operand == "param":
                self.tensors[0].operands[i] = view.buf
        return True

    cdef int add_group(self, Py_ssize_t g, tuple kernels) except -1:
        cdef fastopt_group *group = &self.group_stages[g]
        cdef GroupInfo info = GroupInfo()
        names = []
        operands = []
        if len(kernels) > FASTOPT_MAX_STAGES:
            raise RuntimeError(f"{kernels} are too many; raise FASTOPT_MAX_STAGES")
        for kernel in kernels:
            index, its_operands, its_coefficients = KERNELS[kernel]
            group.stages[group.stage_count] = fastopt_stage(index, len(operands), len(names))
            group.stage_count += 1
            operands += its_operands
            names += its_coefficients
        if len(operands) > FASTOPT_MAX_OPERANDS or len(names) > FASTOPT_MAX_COEFFICIENTS:
            raise RuntimeError(f"{kernels} need {len(operands)} operands and {len(names)} coefficients; "
                               "raise FASTOPT_MAX_OPERANDS or FASTOPT_MAX_COEFFICIENTS")
        info.operands = operands
        info.grad_operands = [i for i, operand in enumerate(operands) if operand == "grad"]
        info.names = tuple(names)
        group.coefficient_count = <int>len(names)
        self.infos.append(info)
        self.zero_grads = self.zero_grads or "zero_grad" in kernels

    cdef int add_tensor(self, Py_ssize_t t, Py_ssize_t g, str path, sizes, dict operands, list spans) except -1:
        cdef fastopt_tensor *tensor = &self.tensors[t]
        cdef GroupInfo info = self.infos[g]
        cdef Py_buffer *view
        cdef Py_ssize_t i, segment = self.first_segments[t]
        cdef int64_t begin = 0
        pointers = {"grad": 0}
        for operand, array in operands.items():
            view = &self.held[self.held_count]
            name = self.arguments.get(operand, operand)
            acquire(array, view, name, path, True, NULL if operand == "param" else &self.params[t], True)
            self.held_count += 1
            if operand == "param":
                self.params[t] = view[0]
                tensor.real, tensor.size = real_of(view), view.len // view.itemsize
                info.has_f32 = info.has_f32 or tensor.real == FASTOPT_F32
            pointers[operand] = <uintptr_t>view.buf
            if view.len:
                spans.append(span_of(view, name + path))
        for i, operand in enumerate(info.operands):
            tensor.operands[i] = <void *><uintptr_t>pointers[operand]
        for size in [tensor.size] if sizes is None else sizes:
            self.segments[segment] = Segment(t, begin, begin + <int64_t>size)
            begin += <int64_t>size
            segment += 1
        self.tensor_groups[t], self.first_segments[t + 1] = g, segment
        self.paths.append(path)

    cdef bint is_uniform(self, Py_ssize_t t) noexcept:
        """Return whether all segments of a tensor take part, and have missed as many steps."""
        cdef Py_ssize_t s, first = self.first_segments[t]
        for s in range(first, self.first_segments[t + 1]):
            if not self.active[s] or self.missed_steps[s] != self.missed_steps[first]:
                return False
        return True

    cdef int cut(self) except -1:
        """Cut the segments that take part into chunks, and allocate the coefficients of each clock."""
        cdef Py_ssize_t t, s, first, last, i = 0, count = 0
        cdef int64_t begin, end, elements = 0, chunk = CHUNK
        cdef fastopt_chunk *chunks
        cdef double *chunk_sums
        cdef Clock *own_clocks
        cdef fastopt_group *clock_groups
        clocks = {}
        ranges = []
        for t in range(self.tensor_count):
            first, last = self.first_segments[t], self.first_segments[t + 1]
            uniform = self.is_uniform(t)
            for s in range(first, min(last, first + 1) if uniform else last):
                if self.active[s]:
                    clock = clocks.setdefault((self.tensor_groups[t], self.missed_steps[s]), len(clocks))
                    begin = self.segments[s].begin
                    end = self.tensors[t].size if uniform else self.segments[s].end
                    ranges.append((t, clock, begin, end))
                    count += (end - begin + chunk - 1) // chunk
                    elements += end - begin
        own_clocks = <Clock *>allocate(len(clocks), sizeof(Clock))
        clock_groups = <fastopt_group *>allocate(len(clocks), sizeof(fastopt_group))
        chunks = <fastopt_chunk *>allocate(count, sizeof(fastopt_chunk))
        chunk_sums = <double *>allocate(count, sizeof(double))
        for clock, (g, missed) in enumerate(clocks):
            own_clocks[<Py_ssize_t>clock] = Clock(g, missed)
            clock_groups[<Py_ssize_t>clock] = self.group_stages[<Py_ssize_t>g]
        for t, clock, begin, end in ranges:
            while begin < end:
                chunks[i] = fastopt_chunk(
                    &self.tensors[t], &clock_groups[<Py_ssize_t>clock], begin, min(begin + chunk, end))
                i += 1
                begin += chunk
        free(self.clocks)
        free(self.clock_groups)
        free(self.chunks)
        free(self.chunk_sums)
        self.clocks, self.clock_count = own_clocks, len(clocks)
        self.clock_groups, self.chunks, self.chunk_sums = clock_groups, chunks, chunk_sums
        self.chunk_count, self.elements = count, elements
        self.leaves_out = False
        for s in range(self.segment_count):
            self.leaves_out = self.leaves_out or not self.active[s]
        memcpy(self.cut_active, self.active, self.segment_count)
        memcpy(self.cut_missed, self.missed_steps, self.segment_count * sizeof(int64_t))

    def set_hyperparameters(self, Py_ssize_t group, dict values):
        """Set the hyperparameters of a parameter group, by name; each step reads the rate, which may be a function."""
        cdef GroupInfo info = self.infos[group]
        set_hyperparameters(&self.hyperparameters[group], values)
        info.hyperparameters = values
