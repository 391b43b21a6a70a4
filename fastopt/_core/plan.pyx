# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The plan of an optimizer: its parameters and states, checked once and cut into chunks.

A step binds the gradients, computes their norm if it is needed, decides what happens to gradients that are not finite,
and runs the stages. All checks come before the first write. The plan also counts the steps: a count changes in the same
call as the arrays, so that neither a signal nor another thread ever sees one without the other.
"""

from cpython.buffer cimport Py_buffer, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY, isfinite, isinf, sqrt
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset

import numpy as np

from fastopt._core.buffers cimport (
    FASTOPT_F32, REAL_NAMES, acquire, allocate, check_spans, first_nonfinite, real_of, shape_of, span_of,
)
from fastopt._core.kernels cimport (
    SERIAL_BELOW, Threads, begin_parallel, end_parallel, fp_env_restore, fp_env_set, spin_between_loops, table,
)
from fastopt._core.step cimport (
    FASTOPT_GRAD, FASTOPT_MAX_COEFFICIENTS, FASTOPT_MAX_OPERANDS, FASTOPT_MAX_STAGES, fastopt_accumulate,
    fastopt_chunk, fastopt_group, fastopt_run_stages, fastopt_stage, fastopt_step, fastopt_sum_squares,
    fastopt_tensor,
)

from fastopt._core.kernels import CHUNK, KERNELS, isa, thread_count

cdef enum Nonfinite:
    PROPAGATE, SKIP, RAISE

NONFINITE = {"propagate": PROPAGATE, "skip": SKIP, "raise": RAISE}

cdef struct Progress:
    int64_t steps, skipped
    int64_t parts                               # of a batch, whose gradients were accumulated
    double grad_scale
    double norm                                 # of the last step's gradients
    int64_t has_norm


cdef struct Span:                               # of memory
    uintptr_t begin, end


def progress(int64_t steps, int64_t skipped, double grad_scale):
    """Return the contents of ``Plan.progress`` for a number of completed steps."""
    cdef Progress values = Progress(steps, skipped, 0, grad_scale, 0.0, 0)
    return np.frombuffer((<char *>&values)[:sizeof(Progress)], np.uint8)


cdef class GroupInfo:
    """Data of a group that only the core uses."""

    cdef dict index                             # of each coefficient, by name
    cdef list operands                          # the names of those of all stages, in order
    cdef list grad_operands                     # the places of the gradient among them
    cdef Py_ssize_t scale                       # the index of that coefficient
    cdef double static_scale                    # its value before grad_scale and clipping
    cdef bint has_f32


cdef int set_coefficient(fastopt_group *group, GroupInfo info, Py_ssize_t i, double value) except -1:
    """Round a coefficient and check its range. A gradient scale of 0 would silently do nothing."""
    group.f64[i], group.f32[i] = value, <float>value
    if isinf(value) or info.has_f32 and (
            isinf(group.f32[i]) or i == info.scale and group.f32[i] == 0 and value != 0):
        raise ValueError(f"the coefficient {list(info.index)[i]!r}, computed from the hyperparameters, must be within "
                         f"the range of {'float32' if info.has_f32 else 'float64'}, got {value}")


cdef class Plan:
    """Parameters and states, checked, held and cut into chunks.

    ``groups`` is a list of ``(kernels, tensors)``: the names of the kernels that run on each chunk, one after the
    other, and for each tensor ``(path, {operand: array})`` with all operands but ``grad``. ``arguments`` maps an
    operand to the user's name for it; with the path it names an array in messages: ``params['w1']``. ``locate(tensor,
    element)`` returns the name and the index of an element of a tensor.

    ``with plan:`` keeps out other threads and re-entrant calls, which get ``RuntimeError``.
    """

    cdef fastopt_group *groups
    cdef fastopt_tensor *tensors
    cdef fastopt_chunk *chunks
    cdef double *chunk_sums
    cdef Py_buffer *held                        # parameters and states, for the life of the plan
    cdef Py_buffer *params                      # of each tensor, a copy of the one in held
    cdef Py_buffer *grads                       # for the duration of a step
    cdef Span *spans                            # that a step writes, besides gradients; by address
    cdef Progress *p
    cdef Py_buffer progress_view
    cdef Py_ssize_t group_count, tensor_count, chunk_count, held_count, bound_count
    cdef int64_t elements
    cdef bint zero_grads, grads_known, busy, clips
    cdef double max_norm
    cdef Nonfinite nonfinite
    cdef list infos, paths, span_names
    cdef dict arguments
    cdef str grad_name
    cdef object locate
    cdef readonly object progress               # uint8 array that holds the Progress struct
    cdef readonly list grad_sums                # of accumulated gradients, or None
    cdef public bint dirty                      # whether the static coefficients are out of date

    def __cinit__(self, list groups, dict arguments, locate=None, max_norm=None, str nonfinite="propagate"):
        cdef Py_ssize_t g, i, t = 0
        self.arguments, self.grad_name, self.locate = arguments, arguments.get("grad", "grad"), locate
        self.infos, self.paths = [], []
        self.clips = max_norm is not None
        self.max_norm = max_norm if self.clips else INFINITY
        self.nonfinite = NONFINITE[nonfinite]
        self.dirty = True
        self.progress = progress(0, 0, 1.0).copy()
        PyObject_GetBuffer(self.progress, &self.progress_view, PyBUF_WRITABLE)
        self.p = <Progress *>self.progress_view.buf
        self.group_count = len(groups)
        self.tensor_count = sum([len(tensors) for _, tensors in groups])
        self.groups = <fastopt_group *>allocate(self.group_count, sizeof(fastopt_group))
        self.tensors = <fastopt_tensor *>allocate(self.tensor_count, sizeof(fastopt_tensor))
        self.params = <Py_buffer *>allocate(self.tensor_count, sizeof(Py_buffer))
        self.grads = <Py_buffer *>allocate(self.tensor_count, sizeof(Py_buffer))
        self.held = <Py_buffer *>allocate(self.tensor_count * FASTOPT_MAX_OPERANDS, sizeof(Py_buffer))
        spans = []
        for g in range(self.group_count):
            kernels, tensors = groups[g]
            self.add_group(&self.groups[g], kernels)
            for path, operands in tensors:
                self.add_tensor(t, &self.groups[g], self.infos[g], path, operands, spans)
                t += 1
        check_spans(spans)
        self.span_names = [name for _, _, name in spans]
        self.spans = <Span *>allocate(len(spans), sizeof(Span))
        for i in range(len(spans)):
            self.spans[i] = Span(spans[i][0], spans[i][1])
        self.cut()

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.held_count):
            PyBuffer_Release(&self.held[i])
        PyBuffer_Release(&self.progress_view)  # does nothing if it was not acquired
        free(self.groups)
        free(self.tensors)
        free(self.chunks)
        free(self.chunk_sums)
        free(self.held)
        free(self.params)
        free(self.grads)
        free(self.spans)

    # Building

    cdef int add_group(self, fastopt_group *group, tuple kernels) except -1:
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
        info.index = {name: i for i, name in enumerate(names)}
        info.scale = names.index("scale")
        self.infos.append(info)
        self.zero_grads = self.zero_grads or "zero_grad" in kernels

    cdef int add_tensor(self, Py_ssize_t t, fastopt_group *group, GroupInfo info, str path, dict operands,
                        list spans) except -1:
        cdef fastopt_tensor *tensor = &self.tensors[t]
        cdef Py_buffer *view
        cdef Py_ssize_t i
        tensor.group = group
        pointers = {"grad": 0}
        for operand, array in operands.items():
            view = &self.held[self.held_count]
            name = self.arguments.get(operand, operand)
            acquire(array, view, name, path, True, NULL if operand == "param" else &self.params[t])
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
        self.paths.append(path)

    cdef int cut(self) except -1:
        cdef Py_ssize_t t, count = 0
        cdef int64_t begin, chunk = CHUNK
        cdef fastopt_tensor *tensor
        for t in range(self.tensor_count):
            count += (self.tensors[t].size + chunk - 1) // chunk
            self.elements += self.tensors[t].size
        self.chunks = <fastopt_chunk *>allocate(count, sizeof(fastopt_chunk))
        self.chunk_sums = <double *>allocate(count, sizeof(double))
        for t in range(self.tensor_count):
            tensor = &self.tensors[t]
            begin = 0
            while begin < tensor.size:
                self.chunks[self.chunk_count] = fastopt_chunk(tensor, begin, min(begin + chunk, tensor.size))
                self.chunk_count += 1
                begin += chunk

    # The lock

    def __enter__(self):
        self.lock()

    cdef int lock(self) except -1:
        if self.busy:
            raise RuntimeError("the optimizer is already in use by another thread or a re-entrant call")
        self.busy = True

    def __exit__(self, *error):
        self.busy = False

    # What a step changes

    @property
    def steps(self):
        """The number of completed steps."""
        return self.p.steps

    @property
    def skipped(self):
        """The number of steps skipped because a gradient was not finite."""
        return self.p.skipped

    @property
    def parts(self):
        """The number of gradients accumulated since the last step."""
        return self.p.parts

    @property
    def norm(self):
        """The norm that the last step computed, or None."""
        return self.p.norm if self.p.has_norm else None

    @property
    def grad_scale(self):
        """The divisor of the gradients."""
        return self.p.grad_scale

    @grad_scale.setter
    def grad_scale(self, double value):
        self.p.grad_scale = value

    # Settings, which hold until they change

    def set_coefficients(self, Py_ssize_t g, dict coefficients):
        """Set coefficients of a group, by name."""
        cdef uint64_t before = fp_env_set()
        try:
            self.pack(g, coefficients)
        finally:
            fp_env_restore(before)

    cdef int pack(self, Py_ssize_t g, dict coefficients) except -1:
        """Set coefficients of a group; names that the group's kernels do not have are left out."""
        cdef GroupInfo info = self.infos[g]
        for name, value in coefficients.items():
            index = info.index.get(name)
            if index is not None:
                set_coefficient(&self.groups[g], info, index, value)
        if "scale" in coefficients:
            info.static_scale = self.groups[g].f64[info.scale]

    # Stepping

    def step(self, list grads, list coefficients):
        """Run one step with a dictionary of coefficients for each group; the caller holds the lock.

        If gradients are not finite, the step is skipped or raises ``FloatingPointError``, according to the policy.
        """
        cdef fastopt_step work
        cdef double factor = 1.0
        cdef Py_ssize_t g
        cdef uint64_t before = fp_env_set()
        try:
            self.bind(grads)
            for g in range(self.group_count):
                self.pack(g, coefficients[g])
            self.begin(&work)
            self.p.has_norm = False
            if self.clips or self.nonfinite != PROPAGATE:
                if not self.compute_norm(&work):
                    return
                if self.clips and not isinf(self.max_norm) and not self.p.norm + 1e-6 <= self.max_norm:
                    factor = self.max_norm / (self.p.norm + 1e-6)
            self.scale_gradients(factor)
            if self.elements < SERIAL_BELOW:    # shorter than releasing the GIL and taking it again
                fastopt_run_stages(&work)
            else:
                with nogil:
                    fastopt_run_stages(&work)
                end_parallel()
            self.p.steps += 1
            self.p.parts = 0
        finally:
            self.release()
            fp_env_restore(before)

    def accumulate(self, list grads, zeros):
        """Add gradients to ``grad_sums``, which ``zeros(shape, dtype)`` allocates."""
        cdef fastopt_step work
        cdef Py_buffer view
        cdef Py_ssize_t i
        cdef uint64_t before
        self.lock()                             # here: with a `with` statement, small calls take a quarter longer
        before = fp_env_set()
        try:
            self.bind(grads)
            if self.grad_sums is None:
                self.grad_sums = [zeros(shape_of(&self.params[i]), REAL_NAMES[self.tensors[i].real])
                                  for i in range(self.tensor_count)]
            for i in range(self.tensor_count):
                PyObject_GetBuffer(self.grad_sums[i], &view, PyBUF_WRITABLE)
                self.tensors[i].grad_sum = view.buf
                PyBuffer_Release(&view)         # the list keeps the memory
            self.begin(&work)
            if self.elements < SERIAL_BELOW:
                fastopt_accumulate(&work, self.p.parts == 0, self.zero_grads)
            else:
                with nogil:
                    fastopt_accumulate(&work, self.p.parts == 0, self.zero_grads)
                end_parallel()
            self.p.parts += 1
        finally:
            self.release()
            fp_env_restore(before)
            self.busy = False

    cdef void begin(self, fastopt_step *work) noexcept:
        cdef Threads threads = begin_parallel(self.elements, self.chunk_count)
        work[0] = fastopt_step(
            table(), threads.parallel_for, threads.count, threads.spin, self.chunks, self.chunk_count, self.chunk_sums)

    cdef double divisor(self) noexcept:
        """Return the divisor of the gradients: the loss scale times the number of accumulated parts."""
        return self.p.grad_scale * max(self.p.parts, 1)

    cdef bint compute_norm(self, fastopt_step *work) except -1:
        """Compute the norm of the gradients; return whether the step goes on."""
        cdef double total
        cdef int64_t spin = work.spin
        work.spin = spin_between_loops()        # the stages follow at once
        if self.elements < SERIAL_BELOW:
            total = fastopt_sum_squares(work)
        else:
            with nogil:
                total = fastopt_sum_squares(work)
        work.spin = spin
        self.p.norm, self.p.has_norm = sqrt(total) / self.divisor(), True
        return isfinite(self.p.norm) or self.accept_nonfinite()

    cdef bint accept_nonfinite(self) except -1:
        """Decide about a norm that is not finite, before anything is written; return whether the step goes on."""
        cdef Py_ssize_t i, tensor = -1
        cdef int64_t element = 0
        for i in range(self.tensor_count):
            element = first_nonfinite(&self.grads[i])
            if element >= 0:
                tensor = i
                break
        if tensor < 0 and isinf(self.max_norm) or tensor >= 0 and self.nonfinite == PROPAGATE:
            return True
        self.p.parts = 0
        if tensor < 0:                          # the sum of squares is beyond float64
            raise OverflowError("the norm of grads must be within float64 to be scaled to max_grad_norm, got infinity")
        if self.nonfinite == RAISE:
            name, index = self.locate(tensor, element)
            value = np.asarray(self.grads[tensor].obj).ravel()[element]
            raise FloatingPointError(f"{self.grad_name}{name} must be finite, got {value} at index {index}")
        self.p.skipped += 1
        if self.zero_grads:                     # otherwise the next gradients would be added to these
            for i in range(self.tensor_count):
                memset(self.grads[i].buf, 0, self.grads[i].len)
        return False

    cdef int scale_gradients(self, double factor) except -1:
        """Set the coefficient that multiplies the gradients."""
        cdef double scale = 1.0 / self.divisor()
        cdef Py_ssize_t g
        cdef GroupInfo info
        for g in range(self.group_count):
            info = self.infos[g]
            set_coefficient(&self.groups[g], info, info.scale, info.static_scale * scale * factor)

    cdef int bind(self, list grads) except -1:
        """Acquire the gradients, and check that they overlap nothing that a step writes."""
        cdef Py_ssize_t i
        cdef fastopt_tensor *tensor
        cdef GroupInfo info
        cdef bint same = self.grads_known
        if len(grads) != self.tensor_count:
            raise ValueError(f"{self.grad_name} must have {self.tensor_count} arrays, got {len(grads)}")
        self.grads_known = False
        for i in range(self.tensor_count):
            tensor = &self.tensors[i]
            acquire(grads[i], &self.grads[i], self.grad_name, self.paths[i], self.zero_grads, &self.params[i])
            self.bound_count += 1
            if not same or tensor.operands[FASTOPT_GRAD] != self.grads[i].buf:
                same = False
                info = self.infos[tensor.group - self.groups]
                for operand in info.grad_operands:
                    tensor.operands[<Py_ssize_t>operand] = self.grads[i].buf
        if not same:
            spans = []
            for i in range(self.tensor_count):
                self.check_apart(&self.grads[i], self.paths[i])
                if self.zero_grads and self.grads[i].len:
                    spans.append(span_of(&self.grads[i], self.grad_name + self.paths[i]))
            check_spans(spans)
        self.grads_known = True

    cdef int check_apart(self, const Py_buffer *grad, str path) except -1:
        """Raise if a gradient overlaps memory that a step writes."""
        cdef uintptr_t begin = <uintptr_t>grad.buf, end = begin + grad.len
        cdef Py_ssize_t low = 0, high = len(self.span_names), middle
        while low < high:                       # search the first span that ends after begin
            middle = (low + high) // 2
            if self.spans[middle].end > begin:
                high = middle
            else:
                low = middle + 1
        if low < len(self.span_names) and self.spans[low].begin < end and begin < end:
            raise ValueError(f"{self.grad_name}{path} and {self.span_names[low]} overlap in memory")

    cdef void release(self) noexcept:
        while self.bound_count:
            self.bound_count -= 1
            PyBuffer_Release(&self.grads[self.bound_count])

    def info(self):
        """Return how steps run between matrix products."""
        return {
            "tensors": self.tensor_count,
            "elements": self.elements,
            "chunks": self.chunk_count,
            "isa": isa(),
            "threads": thread_count(self.elements, self.chunk_count),
        }
