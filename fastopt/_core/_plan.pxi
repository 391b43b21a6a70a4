# The plan of a step: arrays in, checked, held and cut into chunks. A part of _kernels.pyx.
#
# All checks of a step come before its first write.

cdef struct Span:
    uintptr_t begin
    uintptr_t end


cdef class Plan:
    """Parameters and states, checked, held and cut into chunks; ``step`` binds gradients and runs.

    ``groups`` is a list of ``(kernels, tensors)``: the names of the kernels that visit a chunk one behind the other,
    and for each tensor ``(suffix, {stream: array})`` with all streams but ``grad``. ``arguments`` says what the user
    calls a stream; with the suffix it names an array in messages: ``params['w1']``.
    """

    cdef Group *groups
    cdef Tensor *tensors
    cdef Chunk *chunks
    cdef double *partial                        # a sum for each chunk
    cdef Py_buffer *held                        # parameters and states, for the life of the plan
    cdef Py_buffer *grads                       # gradients, for the time of a step
    cdef Span *spans                            # what a step writes, besides gradients, sorted
    cdef Py_ssize_t group_count, tensor_count, chunk_count, held_count, bound_count, span_count
    cdef readonly int64_t elements
    cdef bint grads_written, grads_known, busy
    cdef double grad_scale, max_norm
    cdef bint clips, measures
    cdef list suffixes, span_labels
    cdef list places                            # for each group: coefficient -> where it is
    cdef dict arguments
    cdef str grad_name
    cdef public Tuner tuner
    # These change within a call of the core, where no other thread and no signal comes between them and the arrays.
    cdef public int64_t steps
    cdef public int64_t parts                   # of a batch, whose gradients were accumulated
    cdef public object norm                     # what the last step saw, or None
    cdef readonly list sums                     # of the gradients of the parts, from the first part on

    def __cinit__(self, list groups, dict arguments):
        self.arguments, self.grad_name = arguments, arguments.get("grad", "grad")
        self.places, self.suffixes = [], []
        self.grad_scale = 1.0
        self.tuner = Tuner()
        self.group_count = len(groups)
        self.tensor_count = sum([len(tensors) for _, tensors in groups])
        self.groups = <Group *>allocate(self.group_count, sizeof(Group))
        self.tensors = <Tensor *>allocate(self.tensor_count, sizeof(Tensor))
        self.grads = <Py_buffer *>allocate(self.tensor_count, sizeof(Py_buffer))
        self.held = <Py_buffer *>allocate(self.tensor_count * MAX_STREAMS, sizeof(Py_buffer))
        cdef Py_ssize_t g, t = 0
        spans = []
        for g in range(self.group_count):
            kernels, tensors = groups[g]
            self.add_group(&self.groups[g], kernels)
            for suffix, streams in tensors:
                self.add_tensor(&self.tensors[t], &self.groups[g], kernels, suffix, streams, spans)
                t += 1
        self.keep_spans(spans)
        self.cut()

    cdef str label(self, str stream, str suffix):
        return self.arguments.get(stream, stream) + suffix

    cdef void add_group(self, Group *group, tuple kernels) except *:
        cdef int streams = 0
        names = []
        if len(kernels) > MAX_STAGES:
            raise RuntimeError(f"{kernels} are too many; raise MAX_STAGES in _kernels.pyx")
        for kernel in kernels:
            index, its_operands, its_coefficients = KERNELS[kernel]
            group.stages[group.stage_count] = Stage(index, streams, len(names))
            group.stage_count += 1
            if "grad" in its_operands:
                group.grads[group.grad_count] = streams + its_operands.index("grad")
                group.grad_count += 1
            streams += len(its_operands)
            names += its_coefficients
        if streams > MAX_STREAMS or len(names) > MAX_COEFFICIENTS:
            raise RuntimeError(f"{kernels} need {streams} streams and {len(names)} coefficients; "
                               "raise MAX_STREAMS or MAX_COEFFICIENTS in _kernels.pyx")
        group.scale = names.index("scale")
        self.places.append({name: i for i, name in enumerate(names)})
        self.grads_written = self.grads_written or "zero_grad" in kernels

    cdef void add_tensor(self, Tensor *tensor, Group *group, tuple kernels, str suffix, dict streams,
                         list spans) except *:
        cdef Py_buffer *view
        cdef int column = 0
        tensor.group = group
        pointers = {"grad": 0}
        for stream, array in streams.items():
            view = &self.held[self.held_count]
            take(array, view, self.arguments.get(stream, stream), suffix, True,
                 tensor if stream != "param" else NULL)
            self.held_count += 1
            if stream == "param":
                tensor.shape, tensor.real, tensor.size = view, real_of(view), view.len // view.itemsize
                group.has_f32 = group.has_f32 or tensor.real == FASTOPT_F32
            pointers[stream] = <uintptr_t>view.buf
            if view.len:
                spans.append((<uintptr_t>view.buf, <uintptr_t>view.buf + view.len, self.label(stream, suffix)))
        for kernel in kernels:
            for stream in KERNELS[kernel].operands:
                tensor.streams[column] = <void *><uintptr_t>pointers[stream]
                column += 1
        self.suffixes.append(suffix)

    cdef void keep_spans(self, list spans) except *:
        """Refuse what overlaps among parameters and states; keep the rest to hold gradients against."""
        cdef Py_ssize_t i
        refuse_overlap(spans)
        self.span_count = len(spans)
        self.span_labels = [label for _, _, label in spans]
        self.spans = <Span *>allocate(self.span_count, sizeof(Span))
        for i in range(self.span_count):
            self.spans[i] = Span(spans[i][0], spans[i][1])

    cdef void cut(self) except *:
        cdef Py_ssize_t t, count = 0
        cdef int64_t begin
        cdef Tensor *tensor
        for t in range(self.tensor_count):
            count += (self.tensors[t].size + FASTOPT_CHUNK - 1) // FASTOPT_CHUNK
            self.elements += self.tensors[t].size
        self.chunks = <Chunk *>allocate(count, sizeof(Chunk))
        self.partial = <double *>allocate(count, sizeof(double))
        for t in range(self.tensor_count):
            tensor = &self.tensors[t]
            begin = 0
            while begin < tensor.size:
                self.chunks[self.chunk_count] = Chunk(tensor, begin, min(begin + FASTOPT_CHUNK, tensor.size))
                self.chunk_count += 1
                begin += FASTOPT_CHUNK

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.held_count):
            PyBuffer_Release(&self.held[i])
        free(self.groups)
        free(self.tensors)
        free(self.chunks)
        free(self.partial)
        free(self.held)
        free(self.grads)
        free(self.spans)

    def set(self, Py_ssize_t g, dict coefficients):
        """Set coefficients of a group, by name, for all steps to come."""
        self.refuse_if_busy()
        cdef uint64_t before = fp_env_set()
        try:
            self.pack(g, coefficients)
        finally:
            fp_env_restore(before)

    cdef void pack(self, Py_ssize_t g, dict coefficients) except *:
        """Round coefficients and check their range; what the group's kernels have no use for is left out."""
        cdef Group *group = &self.groups[g]
        cdef dict places = self.places[g]
        cdef int i
        for name, value in coefficients.items():
            place = places.get(name)
            if place is not None:
                i = place
                group.f64[i] = value
                group.f32[i] = <float>group.f64[i]
                if isinf(group.f64[i]) or (group.has_f32 and isinf(group.f32[i])):
                    self.refuse_coefficient(g, i)
        if "scale" in coefficients:
            group.unclipped = group.f64[group.scale]
            self.refuse_no_scale(g)

    def set_norm(self, double grad_scale, max_norm, bint measures):
        """Compute the norm of the gradients over ``grad_scale`` in each step, to scale it down to ``max_norm`` (if that
        is not None) or merely to measure it."""
        self.refuse_if_busy()
        self.grad_scale, self.measures, self.clips = grad_scale, measures, max_norm is not None
        self.max_norm = max_norm if self.clips else 0.0

    def step(self, list grads, list coefficients, int64_t steps=0, int64_t parts=0, bint regardless=False):
        """Set the coefficients of the step behind so many, a dictionary for each group, and run all stages.

        Refused if there were other steps or parts since the caller looked, and computed coefficients. Gives whether it
        ran: if the ``norm`` was computed and is not finite, nothing is written, unless ``regardless``, and the caller
        decides.
        """
        cdef Work work = Work(table, self.chunks, self.chunk_count, self.partial, False, False)
        cdef double norm, begin = 0.0
        cdef Py_ssize_t g
        self.refuse_if_changed(steps, parts)
        self.busy = True
        cdef uint64_t before = fp_env_set()
        try:
            self.bind(grads)
            for g in range(self.group_count):
                self.pack(g, coefficients[g])
            if self.tunes():
                begin = seconds()
                self.tuner.ask(self.most_threads())
            self.norm = None
            if self.clips or self.measures:
                self.visit(sum_chunk, &work)
                norm = sqrt(total(&work)) / self.grad_scale
                self.norm = norm
                if not isfinite(norm) and not regardless:
                    return False
                if self.clips:
                    self.clip(norm)
            self.visit(run_chunk, &work)
            self.steps += 1
            self.parts = 0
            if begin:
                self.tuner.tell(begin, seconds())
            return True
        finally:
            fp_env_restore(before)
            self.release()
            self.busy = False

    def accumulate(self, list grads, list sums, bint zeroes):
        """Add gradients to the sums of those of a batch; ``sums`` is memory for them, if there is none yet."""
        cdef Work work = Work(table, self.chunks, self.chunk_count, self.partial, self.parts == 0, zeroes)
        cdef Py_buffer view
        cdef Py_ssize_t i
        self.refuse_if_busy()
        self.busy = True
        cdef uint64_t before = fp_env_set()
        try:
            self.bind(grads)
            if self.sums is None:
                self.sums = sums
            for i in range(self.tensor_count):
                PyObject_GetBuffer(self.sums[i], &view, PyBUF_WRITABLE)
                self.tensors[i].sum = view.buf
                PyBuffer_Release(&view)         # the list keeps the memory
            self.visit(add_chunk, &work)
            self.parts += 1
        finally:
            fp_env_restore(before)
            self.release()
            self.busy = False

    def forget(self, int64_t steps, int64_t parts):
        """Forget the gradients that were accumulated; refused as a step is."""
        self.refuse_if_changed(steps, parts)
        self.parts = 0

    def __enter__(self):
        """Let no step and no other part come until ``__exit__``."""
        self.refuse_if_busy()
        self.busy = True

    def __exit__(self, *error):
        self.busy = False

    cdef void refuse_if_busy(self) except *:
        if self.busy:
            self.refuse()

    cdef void refuse_if_changed(self, int64_t steps, int64_t parts) except *:
        self.refuse_if_busy()
        if steps != self.steps or parts != self.parts:
            self.refuse()

    cdef void refuse(self) except *:
        raise RuntimeError("this optimizer is in use already: another thread, or what this call has called, steps with "
                           "it, or saves or loads it")

    @property
    def size_class(self):
        """What plans have in common for which the same number of threads is best."""
        return self.elements.bit_length(), self.most_threads()

    cdef void visit(self, fastopt_body *body, const Work *work) noexcept:
        """Let a number of threads share the chunks."""
        cdef int threads = self.tuner.threads if self.tunes() else self.most_threads()
        cdef int64_t spin = self.tuner.spin() if self.tunes() else 0
        if self.elements < NEVER_SHARED:        # others wait for the GIL no longer than its release would take
            fastopt_share(body, work, work.count, threads, spin)
        else:
            with nogil:
                fastopt_share(body, work, work.count, threads, spin)

    cdef bint tunes(self) noexcept:
        return fixed_threads == 0 and self.elements >= NEVER_SHARED

    cdef int most_threads(self) noexcept:
        if fixed_threads == 0 and not self.tunes():
            return 1
        return <int>min(limited(fixed_threads or most_threads), max(self.chunk_count, 1))

    def info(self):
        """How steps run, for people."""
        cdef int most = self.most_threads()
        return {
            "tensors": self.tensor_count,
            "elements": self.elements,
            "chunks": self.chunk_count,
            "isa": isa(),
            "threads": min(self.tuner.chosen.threads, most) if self.tunes() else most,
            "most_threads": most,
            "awake": self.tunes() and self.tuner.chosen.awake,
            "looks": self.tuner.looks,
            "measured": [dict(zip(("threads", "awake", "step", "rest"), what)) for what in self.tuner.measured],
        }

    cdef void bind(self, list grads) except *:
        cdef Py_ssize_t i
        cdef int column
        cdef Tensor *tensor
        cdef bint same = self.grads_known
        cdef str name = self.grad_name
        if len(grads) != self.tensor_count:
            raise ValueError(f"{name} has {len(grads)} arrays; wants {self.tensor_count}, one for each parameter")
        self.grads_known = False
        for i in range(self.tensor_count):
            tensor = &self.tensors[i]
            take(grads[i], &self.grads[i], name, self.suffixes[i], self.grads_written, tensor)
            self.bound_count += 1
            same = same and tensor.streams[GRAD] == self.grads[i].buf
            for column in range(tensor.group.grad_count):
                tensor.streams[tensor.group.grads[column]] = self.grads[i].buf
        if not same:
            self.refuse_bound_overlap(name)
        self.grads_known = True

    cdef void refuse_bound_overlap(self, str name) except *:
        cdef Py_ssize_t i, low, high, middle
        cdef uintptr_t begin, end
        for i in range(self.tensor_count):
            begin = <uintptr_t>self.grads[i].buf
            end = begin + self.grads[i].len
            low, high = 0, self.span_count      # the first span that ends behind begin
            while low < high:
                middle = (low + high) // 2
                if self.spans[middle].end > begin:
                    high = middle
                else:
                    low = middle + 1
            if low < self.span_count and self.spans[low].begin < end and begin < end:
                raise ValueError(f"{name}{self.suffixes[i]} and {self.span_labels[low]} overlap in memory; "
                                 "each wants memory of its own")
        if self.grads_written:
            refuse_overlap([
                (<uintptr_t>self.grads[i].buf, <uintptr_t>self.grads[i].buf + self.grads[i].len,
                 name + self.suffixes[i])
                for i in range(self.tensor_count) if self.grads[i].len])

    cdef void release(self) noexcept:
        while self.bound_count:
            self.bound_count -= 1
            PyBuffer_Release(&self.grads[self.bound_count])

    cdef void refuse_coefficient(self, Py_ssize_t g, Py_ssize_t i) except *:
        raise ValueError(f"the coefficient {list(self.places[g])[i]!r}, which follows from the hyperparameters, is "
                         f"{self.groups[g].f64[i]}; wants a number within the range of "
                         f"{REAL_NAMES[not self.groups[g].has_f32]}")

    cdef void refuse_no_scale(self, Py_ssize_t g) except *:
        """A scale that rounds to zero would make a step of nothing out of gradients, without a word."""
        cdef Group *group = &self.groups[g]
        if group.has_f32 and group.f32[group.scale] == 0 and group.f64[group.scale] != 0:
            self.refuse_coefficient(g, group.scale)

    cdef void clip(self, double norm) except *:
        """Scale the gradients down to ``max_norm``, in the coefficient that scales them anyway."""
        cdef double factor = self.max_norm / (norm + 1e-6)
        cdef Py_ssize_t g
        cdef Group *group
        if norm + 1e-6 <= self.max_norm or isinf(self.max_norm):
            factor = 1.0
        for g in range(self.group_count):
            group = &self.groups[g]
            group.f64[group.scale] = group.unclipped * factor
            group.f32[group.scale] = <float>group.f64[group.scale]
            self.refuse_no_scale(g)


cdef void *allocate(Py_ssize_t count, size_t size) except NULL:
    cdef void *memory = calloc(max(count, 1), size)
    if memory == NULL:
        raise MemoryError
    return memory
