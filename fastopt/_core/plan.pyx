# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The plan of an optimizer: its counters, and the order of a step.

A step binds the gradients, computes their norm if it is needed, decides what happens to gradients that are not finite,
and runs the stages. All checks come before the first write. The plan also counts the steps: a count changes in the same
call as the arrays, so that neither a signal nor another thread ever sees one without the other.
"""

from cpython.buffer cimport Py_buffer, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY, isfinite, isinf, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

import numpy as np

from fastopt._core.buffers cimport allocate, first_nonfinite
from fastopt._core.gradients cimport Gradients
from fastopt._core.kernels cimport (
    SERIAL_BELOW, Threads, begin_parallel, end_parallel, fp_env_restore, fp_env_set, spin_between_loops, table,
)
from fastopt._core.step cimport (
    fastopt_accumulate, fastopt_run_stages, fastopt_step, fastopt_sum_squares, scale_gradients, set_coefficients,
)
from fastopt._core.tensors cimport GroupInfo, Segment

from fastopt._core.kernels import isa, thread_count

cdef enum Nonfinite:
    PROPAGATE, SKIP, RAISE

NONFINITE = {"propagate": PROPAGATE, "skip": SKIP, "raise": RAISE}

cdef struct Progress:
    int64_t steps, skipped
    int64_t parts                               # of a batch, whose gradients were accumulated
    int64_t micro_steps                         # gradients that were passed to step and accumulate
    double grad_scale
    double norm                                 # of the last step's gradients
    int64_t has_norm


def progress(int64_t steps, int64_t skipped, int64_t micro_steps, double grad_scale):
    """Return the contents of ``Plan.progress`` for a number of completed steps."""
    cdef Progress values = Progress(steps, skipped, 0, micro_steps, grad_scale, 0.0, 0)
    return np.frombuffer((<char *>&values)[:sizeof(Progress)], np.uint8)


cdef class Plan(Gradients):
    """The tensors of an optimizer, and what is done with them.

    The first arguments are those of `Gradients`. ``locate(tensor, element)`` returns the name and the index of an
    element of a tensor. ``ema_decay`` is None, a float or a function of the step.

    ``with plan:`` keeps out other threads and re-entrant calls, which get ``RuntimeError``.
    """

    cdef unsigned char *unsummed                # of each segment: whether no accumulated gradient contained it
    cdef Progress *p
    cdef Py_buffer progress_view
    cdef bint busy, clips
    cdef double norm_limit                      # infinite if gradients are not scaled
    cdef Nonfinite nonfinite
    cdef object locate, ema_decay
    cdef list grad_sums                         # of each tensor: the sum of accumulated gradients, or None
    cdef readonly object progress               # uint8 array that holds the Progress struct

    def __cinit__(self, list groups, dict arguments, zeros, bint convert_grads, locate, str nonfinite, ema_decay):
        self.locate, self.ema_decay, self.norm_limit = locate, ema_decay, INFINITY
        self.nonfinite = NONFINITE[nonfinite]
        self.unsummed = <unsigned char *>allocate(self.segment_count, 1)
        self.grad_sums = [None] * self.tensor_count
        self.progress = progress(0, 0, 0, 1.0).copy()
        PyObject_GetBuffer(self.progress, &self.progress_view, PyBUF_WRITABLE)
        self.p = <Progress *>self.progress_view.buf

    def __dealloc__(self):
        PyBuffer_Release(&self.progress_view)  # does nothing if it was not acquired
        free(self.unsummed)

    def resume(self, Plan other):
        """Take over the counters and the accumulated gradients of a plan whose tensors this one begins with."""
        cdef Py_ssize_t i
        self.p[0] = other.p[0]
        self.max_norm = other.max_norm
        for i in range(self.segment_count):
            old = i < other.segment_count
            self.missed_steps[i] = other.missed_steps[i] if old else self.p.steps
            self.unsummed[i] = other.unsummed[i] if old else True
        self.grad_sums[:other.tensor_count] = other.grad_sums

    def replace_param(self, array):
        """Update another ndarray from now on, in a plan of one array; return False if its layout is another one."""
        with self:
            self.grads_known = False            # whether the last gradients overlap it
            return self.bind_param(array)

    # The lock

    def __enter__(self):
        self.lock()

    cdef int lock(self) except -1:
        self.check_free()
        self.busy = True

    cdef int check_free(self) except -1:
        if self.busy:
            raise RuntimeError("the optimizer is already in use by another thread or a re-entrant call")

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
    def micro_steps(self):
        """The number of gradients passed to ``step`` and ``accumulate``."""
        return self.p.micro_steps

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

    @property
    def max_norm(self):
        """The norm that gradients are scaled to if theirs is larger, or None."""
        return self.norm_limit if self.clips else None

    @max_norm.setter
    def max_norm(self, value):
        self.clips = value is not None
        self.norm_limit = value if self.clips else INFINITY

    # Stepping

    def step(self, list grads, bytes skip, optimizer):
        """Run one step.

        ``grads`` has an array for each tensor, or None to leave it out; without ``grads``, the accumulated ones are
        used. ``skip`` has a byte for each segment, which is not 0 if it is left out, or is None. ``optimizer._sync()``
        sets hyperparameters that are out of date, and ``optimizer._checked_result(name, group, result)`` returns the
        result of one that is a function, or raises. If gradients are not finite, the step is skipped or raises
        ``FloatingPointError``, according to the policy.
        """
        cdef fastopt_step work
        cdef double factor = 1.0
        cdef uint64_t before
        self.lock()
        try:
            self.bind_passed_or_summed(grads, skip)
            if self.dirty:
                optimizer._sync()
            self.call_functions(optimizer)
            before = fp_env_set()
            try:
                self.set_all_coefficients()
                self.begin(&work)
                self.p.has_norm = False
                if self.clips or self.nonfinite != PROPAGATE:
                    if not self.compute_norm(&work):
                        return
                    if not isinf(self.norm_limit) and not self.p.norm + 1e-6 <= self.norm_limit:
                        factor = self.norm_limit / (self.p.norm + 1e-6)
                self.scale_all_gradients(factor * (1.0 / self.divisor()))
                if self.elements < SERIAL_BELOW:  # shorter than releasing the GIL and taking it again
                    fastopt_run_stages(&work)
                else:
                    with nogil:
                        fastopt_run_stages(&work)
                    end_parallel()
                self.count_step(grads is not None)
            finally:
                fp_env_restore(before)
            if self.zero_grads:
                self.zero_left_out()
        finally:
            self.release()
            self.busy = False

    cdef int call_functions(self, optimizer) except -1:
        """Set the rates of the step, and the decay of the average, which may be functions."""
        cdef Py_ssize_t clock, g, last = -1
        cdef GroupInfo info
        cdef double decay
        for clock in range(self.clock_count):
            g = self.clocks[clock].group
            if g != last:                       # the clocks of a group follow each other
                info, last = self.infos[g], g
                self.hyperparameters[g].lr = self.value_of(optimizer, "lr", g, info.hyperparameters["lr"], INFINITY)
        if self.ema_decay is not None:
            decay = self.value_of(optimizer, "ema_decay", 0, self.ema_decay, 1.0)
            for g in range(self.group_count):
                self.hyperparameters[g].ema_decay = decay

    cdef double value_of(self, optimizer, str name, Py_ssize_t group, value, double end) except? -1.0:
        """Return a number, or the result of a function of the step, which must be in [0, end)."""
        if type(value) is float:
            return value
        result = value(self.p.steps)
        if type(result) is not float or not 0.0 <= <double>result < end:
            result = optimizer._checked_result(name, group, result)
        return result

    cdef int set_all_coefficients(self) except -1:
        cdef Py_ssize_t clock, g
        cdef GroupInfo info
        for clock in range(self.clock_count):
            g = self.clocks[clock].group
            info = self.infos[g]
            set_coefficients(&self.clock_groups[clock], &self.hyperparameters[g],
                             self.p.steps + 1 - self.clocks[clock].missed, info.names, info.has_f32)

    cdef int scale_all_gradients(self, double scale) except -1:
        cdef Py_ssize_t clock
        cdef GroupInfo info
        for clock in range(self.clock_count):
            info = self.infos[self.clocks[clock].group]
            scale_gradients(&self.clock_groups[clock], scale, info.names, info.has_f32)

    cdef int bind_passed_or_summed(self, list grads, bytes skip) except -1:
        """Bind the gradients of a step, or the accumulated ones."""
        if grads is not None and self.p.parts:
            raise ValueError(f"{self.grad_name} must be None after accumulate: call step(), or accumulate these, too")
        if grads is not None:
            self.bind(grads, skip)
        elif not self.p.parts:
            raise TypeError(
                f"{self.grad_name} must have the structure of the parameters if none were accumulated, got None")
        elif skip is not None:
            raise ValueError("skip must be empty after accumulate: what no accumulated gradient contained is left out")
        else:
            self.bind(self.grad_sums, self.unsummed[:self.segment_count])

    cdef void count_step(self, bint passed) noexcept:
        """Count a completed step, whose gradients were passed or accumulated before."""
        cdef Py_ssize_t s
        self.p.steps += 1
        self.p.micro_steps += passed
        self.p.parts = 0
        for s in range(self.segment_count if self.leaves_out else 0):
            if not self.active[s]:
                self.missed_steps[s] += 1
                self.cut_missed[s] += 1

    def accumulate(self, list grads, bytes skip):
        """Add gradients to the sums; ``grads`` and ``skip`` are those of `step`."""
        cdef fastopt_step work
        cdef Py_buffer view
        cdef Py_ssize_t i, s
        cdef bint first
        cdef uint64_t before
        self.lock()                             # here: with a `with` statement, small calls take a quarter longer
        before = fp_env_set()
        try:
            self.bind(grads, skip)
            for i in range(self.tensor_count):
                if self.grad_sums[i] is None and grads[i] is not None:
                    self.grad_sums[i] = self.zeros(<object>self.params[i].obj)
                if self.grad_sums[i] is not None:
                    PyObject_GetBuffer(self.grad_sums[i], &view, PyBUF_STRIDES | PyBUF_WRITABLE)
                    self.tensors[i].grad_sum = view.buf
                    PyBuffer_Release(&view)     # the list keeps the memory
            self.begin(&work)
            first = self.p.parts == 0
            if self.elements < SERIAL_BELOW:
                fastopt_accumulate(&work, first, self.zero_grads)
            else:
                with nogil:
                    fastopt_accumulate(&work, first, self.zero_grads)
                end_parallel()
            for s in range(self.segment_count):
                if self.active[s]:
                    self.unsummed[s] = False
                elif first:
                    self.clear_sum(&self.segments[s])
                    self.unsummed[s] = True
            self.p.parts += 1
            self.p.micro_steps += 1
            if self.zero_grads:
                self.zero_left_out()
        finally:
            self.release()
            fp_env_restore(before)
            self.busy = False

    cdef void clear_sum(self, const Segment *segment) noexcept:
        """Set the sum of a segment to zero, if there is one."""
        cdef Py_ssize_t item = self.params[segment.tensor].itemsize
        if self.tensors[segment.tensor].grad_sum != NULL:
            memset(<char *>self.tensors[segment.tensor].grad_sum + segment.begin * item, 0,
                   (segment.end - segment.begin) * item)

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
        cdef Py_ssize_t i, s, tensor = -1
        cdef int64_t element = -1
        cdef void *memory
        for s in range(self.segment_count):
            if self.active[s]:
                tensor = self.segments[s].tensor
                element = first_nonfinite(&self.grads[tensor], self.segments[s].begin, self.segments[s].end)
                if element >= 0:
                    break
        if element < 0 and isinf(self.norm_limit) or element >= 0 and self.nonfinite == PROPAGATE:
            return True
        if element < 0 or self.nonfinite == RAISE:
            self.p.parts = 0
        if element < 0:                         # the sum of squares is beyond float64
            raise OverflowError("the norm of grads must be within float64 to be scaled to max_grad_norm, got infinity")
        if self.nonfinite == RAISE:
            name, index = self.locate(tensor, element)
            memory = self.grads[tensor].buf
            is_f32 = self.grads[tensor].itemsize == 4
            value = (<const float *>memory)[element] if is_f32 else (<const double *>memory)[element]
            raise FloatingPointError(f"{self.grad_name}{name} must be finite, got {value} at index {index}")
        self.p.skipped += 1
        self.p.micro_steps += self.p.parts == 0
        self.p.parts = 0
        if self.zero_grads:                     # otherwise the next gradients would be added to these
            for i in range(self.tensor_count):
                if self.grads[i].len:
                    memset(self.grads[i].buf, 0, self.grads[i].len)
            self.zero_left_out()
        return False

    def info(self):
        """Return how steps run between matrix products."""
        return {
            "tensors": self.tensor_count,
            "elements": self.elements,
            "chunks": self.chunk_count,
            "isa": isa(),
            "threads": thread_count(self.elements, self.chunk_count),
        }


cdef class Locks:
    """``with Locks(plans):`` holds the locks of several plans, or of none if one of them is in use.

    As with a single plan, no Python code runs between taking the locks and releasing them but that of the block, so an
    interrupt cannot leave a plan locked.
    """

    cdef list plans

    def __cinit__(self, list plans):
        self.plans = plans

    def __enter__(self):
        cdef Plan plan
        for plan in self.plans:
            plan.check_free()
        for plan in self.plans:
            plan.busy = True
        return self.plans

    def __exit__(self, *error):
        cdef Plan plan
        for plan in self.plans:
            plan.busy = False
