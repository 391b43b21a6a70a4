# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A step of one array, for callers that manage the states themselves.

It runs the same C code as a plan (plan.pyx), but making a plan takes several times as long as a small step. Here the
structs of a step are on the stack, and hyperparameters are checked once for all calls that pass the same ones.
"""

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.math cimport isinf
from libc.stdint cimport int64_t, intptr_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

from inspect import Parameter

from fastopt._core.buffers cimport FASTOPT_F32, acquire, allocate, check_spans, real_of, span_of
from fastopt._core.kernels cimport (
    SERIAL_BELOW, Threads, begin_parallel, end_parallel, fastopt_hyperparameters, fp_env_restore, fp_env_set, table,
)

from fastopt._core.kernels import HYPERPARAMETERS, KERNELS

cdef dict PLACES = {name: i for i, name in enumerate(HYPERPARAMETERS)}
cdef object EMPTY = Parameter.empty             # the default of an argument that must be given


cdef int set_hyperparameters(fastopt_hyperparameters *h, dict values) except -1:
    """Set all hyperparameters by name, as csrc/kernels.def defines it, but not those that are functions of the step."""
    memset(h, 0, sizeof(fastopt_hyperparameters))
    for name, value in values.items():
        if type(value) is tuple:
            for i, beta in enumerate(value, 1):
                set_number(h, f"beta{i}", beta)
        elif type(value) is str:
            set_number(h, f"{name}_{value}", 1.0)
        elif not callable(value):
            set_number(h, name, value)


cdef int set_number(fastopt_hyperparameters *h, str name, double number) except -1:
    place = PLACES.get(name)                    # None for a flag that only selects the kernel
    if place is not None:
        (<double *>h)[<Py_ssize_t>place] = number


def numbers_of(dict values):
    """Return the number of each of ``HYPERPARAMETERS``, from their values by name."""
    cdef fastopt_hyperparameters h
    set_hyperparameters(&h, values)
    return [(<double *>&h)[i] for i in range(len(PLACES))]


cdef int set_coefficients(fastopt_group *group, const fastopt_hyperparameters *h, int64_t step, tuple names,
                          bint has_f32) except -1:
    """Set the coefficients of a step, except for what scales the gradients, or raise if one is out of range."""
    cdef int i = fastopt_set_coefficients(group, table(), h, step, has_f32)
    if i >= 0:
        raise_out_of_range(names[i], group.f64[i], has_f32)


cdef int scale_gradients(fastopt_group *group, double scale, tuple names, bint has_f32) except -1:
    """Multiply the gradients by a factor. One of 0 would silently do nothing."""
    cdef double product = group.f64[FASTOPT_SCALE] * scale
    group.f64[FASTOPT_SCALE], group.f32[FASTOPT_SCALE] = product, <float>product
    if isinf(product) or has_f32 and (isinf(<float>product) or <float>product == 0 and product != 0):
        raise_out_of_range(names[FASTOPT_SCALE], product, has_f32)


cdef int raise_out_of_range(str name, double value, bint has_f32) except -1:
    raise ValueError(f"the coefficient {name!r}, computed from the hyperparameters, must be within the range of "
                     f"{'float32' if has_f32 else 'float64'}, got {value}")


cdef bint equals_checked(object value, object checked) noexcept:
    """Return whether a check of ``value`` would return ``checked``. Equality is not enough: 1 is not True."""
    cdef double a, b
    cdef Py_ssize_t i
    if value is checked:
        return True
    if type(checked) is float and (isinstance(value, float) or type(value) is int and value == checked):
        a, b = value, checked
        return memcmp(&a, &b, sizeof(double)) == 0      # 0.0 is not -0.0
    if type(checked) is tuple and type(value) is tuple and len(<tuple>value) == len(<tuple>checked):
        for i in range(len(<tuple>checked)):
            if not equals_checked((<tuple>value)[i], (<tuple>checked)[i]):
                return False
        return True
    return False


cdef class BoundKernel:
    """A kernel with hyperparameters ``h``, except for the rate.

    ``function`` is its name in errors, and ``arguments`` are the names of the arrays that ``step`` takes.
    """

    cdef tuple checked                          # the hyperparameters
    cdef str function
    cdef tuple arguments, operands
    cdef Py_ssize_t places[FASTOPT_MAX_OPERANDS]    # of the operands among the arguments
    cdef uint64_t needed                        # a bit for each of these places
    cdef tuple names                            # of the coefficients
    cdef fastopt_hyperparameters numbers        # each step completes a copy
    cdef fastopt_group group

    def __cinit__(self, str function, tuple arguments, str kernel, dict h):
        self.function, self.arguments, self.checked = function, arguments, tuple(h.values())
        self.group.stages[0].kernel, self.operands, self.names = KERNELS[kernel]
        self.group.stage_count, self.group.coefficient_count = 1, <int>len(self.names)
        set_hyperparameters(&self.numbers, h)
        for i, operand in enumerate(self.operands):
            self.places[<Py_ssize_t>i] = arguments.index(operand)
            self.needed |= <uint64_t>1 << self.places[<Py_ssize_t>i]

    def step(self, list arrays, int64_t step, double scale, double lr):
        """Do a step, counted from 1, with gradients times ``scale``.

        ``arrays`` begins with the arguments, which are None where the kernel has no operand of that name.
        """
        cdef fastopt_group group = self.group
        cdef fastopt_hyperparameters numbers = self.numbers
        cdef fastopt_tensor tensor
        cdef fastopt_chunk *chunks = NULL
        cdef fastopt_step work
        cdef Py_buffer views[FASTOPT_MAX_OPERANDS]
        cdef const Py_buffer *param = NULL      # the others have its type and shape
        cdef Py_ssize_t held = 0, i
        cdef int64_t begin, count
        cdef Threads threads
        cdef uint64_t before = fp_env_set()
        try:
            self.check_present(arrays)
            for i in range(len(self.operands)):
                acquire(arrays[self.places[i]], &views[i], self.operands[i], "", i != FASTOPT_GRAD, param, True)
                held += 1
                param, tensor.operands[i] = views, views[i].buf
            check_apart(views, self.operands)
            tensor.real, tensor.size = real_of(param), param.len // param.itemsize
            numbers.lr = lr
            set_coefficients(&group, &numbers, step, self.names, tensor.real == FASTOPT_F32)
            scale_gradients(&group, scale, self.names, tensor.real == FASTOPT_F32)
            count = (tensor.size + FASTOPT_CHUNK - 1) // FASTOPT_CHUNK
            chunks = <fastopt_chunk *>allocate(count, sizeof(fastopt_chunk))
            for i in range(count):
                begin = i * FASTOPT_CHUNK
                chunks[i] = fastopt_chunk(&tensor, &group, begin, min(begin + FASTOPT_CHUNK, tensor.size))
            threads = begin_parallel(tensor.size, count)
            work = fastopt_step(table(), threads.parallel_for, threads.count, threads.spin, chunks, count, NULL)
            if tensor.size < SERIAL_BELOW:      # shorter than releasing the GIL and taking it again
                fastopt_run_stages(&work)
            else:
                with nogil:
                    fastopt_run_stages(&work)
                end_parallel()
        finally:
            free(chunks)
            for i in range(held):
                PyBuffer_Release(&views[i])
            fp_env_restore(before)

    cdef int check_present(self, list arrays) except -1:
        """Raise if an array is missing, or one is there that the kernel does not need."""
        cdef Py_ssize_t i
        cdef uint64_t given = 0
        for i in range(len(self.arguments)):
            given |= <uint64_t>(arrays[i] is not None) << i
        if given != self.needed:
            got = [name for name, array in zip(self.arguments, arrays) if array is not None]
            raise TypeError(f"{self.function} must have {', '.join(self.operands)} for these hyperparameters, "
                            f"got {', '.join(got)}")


cdef int check_apart(const Py_buffer *views, tuple operands) except -1:
    """Raise if two operands, which have the same size, share memory."""
    cdef Py_ssize_t i, k
    for i in range(len(operands)):
        for k in range(i):
            if -views[i].len < <intptr_t>views[i].buf - <intptr_t>views[k].buf < views[i].len:
                if i == FASTOPT_GRAD or k == FASTOPT_GRAD:
                    raise ValueError(f"grad and {operands[k if i == FASTOPT_GRAD else i]} overlap in memory")
                check_spans([span_of(&views[i], operands[i]), span_of(&views[k], operands[k])])


def arguments_in_order(dict places, list defaults, Py_ssize_t by_position, tuple arguments, dict named):
    """Return the arguments of a call by their places in the signature, or None if they do not fit it.

    At most ``by_position`` of them may be given by position.
    """
    cdef list values = defaults[:]
    cdef Py_ssize_t given = len(arguments), place
    if given > by_position:
        return None
    for place in range(given):
        values[place] = arguments[place]
    for name, value in named.items():
        place = places.get(name, -1)
        if place < given:                       # unknown, or given by position, too
            return None
        values[place] = value
    for value in values:
        if value is EMPTY:
            return None
    return values


def find_kernel(list known, list values, Py_ssize_t first):
    """Return the first of some kernels whose hyperparameters are ``values[first:]``, checked; or None."""
    cdef BoundKernel kernel
    cdef Py_ssize_t i
    for kernel in known:
        for i in range(len(kernel.checked)):
            if not equals_checked(values[first + i], kernel.checked[i]):
                break
        else:
            return kernel
    return None
