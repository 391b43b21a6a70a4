# How many threads a step uses. A part of _kernels.pyx.
#
# The results don't depend on it, so a plan measures, in the caller's own loop, and keeps what is faster. What it
# measures is the whole iteration, from the end of a step to the end of the next: threads can cost more in the matrix
# product behind the step, which wants the same cores, than they save in the step.

# GNU's OpenMP hangs in a forked child: the thread that forks still has its pool there, but not the threads in it. So
# the pool is given up before each fork (OpenMP 5.0, in GNU's since gcc 9; where it can't be, the child has one thread).
# LLVM's looks after itself.
cdef extern from *:
    """
    static int forked_with_a_pool = 0;
    #ifdef _OPENMP
    #include <omp.h>
    #include <pthread.h>
    extern int gnu_or_llvm_pause(int) __asm__("omp_pause_resource_all") __attribute__((weak));
    extern int llvm_marker(void *) __asm__("__kmpc_global_thread_num") __attribute__((weak));
    static int gave_up_pool = 0;
    static void before_fork(void) {
        enum { HARD = 2 };
        gave_up_pool = llvm_marker || (gnu_or_llvm_pause && gnu_or_llvm_pause(HARD) == 0);
    }
    static void in_child(void) { forked_with_a_pool |= !gave_up_pool; }
    static void prepare_for_forks(void) { pthread_atfork(before_fork, NULL, in_child); }
    #else
    static int omp_get_max_threads(void) { return 1; }
    static void prepare_for_forks(void) {}
    #endif
    """
    int forked_with_a_pool
    int omp_get_max_threads() nogil
    void prepare_for_forks()

prepare_for_forks()

cdef enum:
    PAIRS = 4                                   # samples of each choice in a look
    LOOK = 4 * PAIRS                            # its steps
    LEAST_REST = 64                             # steps between two looks, at least

cdef double WAKING = 50e-6                      # seconds that waking a worker takes, in good circumstances
cdef double MOST_LOSS = 0.01                    # of all time, for looking
cdef double WORTH = 0.05                        # of a step: what more threads must save
cdef int64_t NEVER_PARALLEL = 2**14             # elements below which no step takes as long as waking a worker

cdef int fixed_threads = 1                      # for every step, or 0: measure
cdef int most_threads = 1
cdef int openmp_threads = omp_get_max_threads()


def use_threads(int fixed, int most):
    """Run steps on ``fixed`` threads, or with 0 on as many, up to ``most``, as measure best."""
    global fixed_threads, most_threads
    fixed_threads, most_threads = fixed, most


cdef int limited(int threads) noexcept:
    """No more than OpenMP has been limited to since the import, by threadpoolctl, say."""
    cdef int limit = 1 if forked_with_a_pool else omp_get_max_threads()
    return min(threads, limit) if limit < openmp_threads else threads


cdef double seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef double median(const double *samples) noexcept:
    """Of PAIRS samples."""
    cdef double ordered[PAIRS]
    cdef int i, j
    for i in range(PAIRS):
        j = i
        while j > 0 and ordered[j - 1] > samples[i]:
            ordered[j] = ordered[j - 1]
            j -= 1
        ordered[j] = samples[i]
    return (ordered[(PAIRS - 1) // 2] + ordered[PAIRS // 2]) / 2


cdef double clearly_more(const double *a, const double *b) noexcept:
    """How much more a is than b, if all of a is on one side of all of b; else 0: noise."""
    cdef double most_a = a[0], least_a = a[0], most_b = b[0], least_b = b[0]
    cdef int i
    for i in range(1, PAIRS):
        most_a, least_a = max(most_a, a[i]), min(least_a, a[i])
        most_b, least_b = max(most_b, b[i]), min(least_b, b[i])
    return median(a) - median(b) if least_a > most_b or most_a < least_b else 0.0


cdef class Tuner:
    """Chooses a number of threads by measuring, now and then, two neighbouring numbers in turn.

    ``threads(most)`` before a step, ``ran(begin, end)`` behind it, in seconds. In a look each number has two steps in
    a row, and the second is measured: what the workers of the first do to the iteration behind it belongs to it.
    Between looks it rests so long that they cost a hundredth of the time.
    """

    cdef readonly int most                      # threads that may be used
    cdef readonly int chosen
    cdef readonly int other                     # what it was or is compared with; 0: nothing yet
    cdef readonly int looks
    cdef int step                               # of a look, or below 0: of a rest
    cdef int direction
    cdef double ended                           # the last step
    cdef double rest_until
    cdef double steps[2][PAIRS]                 # seconds of the steps: chosen, other
    cdef double rests[2][PAIRS]                 # seconds between them
    cdef readonly tuple measured                # (threads, seconds of a step, of the rest) of both, in the last look

    def __init__(self):
        self.begin(1, 1)

    cdef void begin(self, int most, int chosen) noexcept:
        self.most, self.chosen, self.other, self.looks = most, chosen, 0, 0
        self.step, self.direction, self.ended, self.rest_until = 0, 1, 0, 0
        self.measured = ()

    cpdef int threads(self, int most) noexcept:
        """The number for the next step."""
        if most != self.most:
            self.begin(most, 1)
        if most == 1 or self.step < 0:
            return self.chosen
        if self.step == 0:
            self.other = self.neighbour()
        return self.other if self.step // 2 % 2 else self.chosen

    cdef int neighbour(self) noexcept:
        """Twice or half the chosen number."""
        if self.chosen == 1:
            self.direction = 1
        elif self.chosen == self.most:
            self.direction = -1
        return min(2 * self.chosen, self.most) if self.direction > 0 else (self.chosen + 1) // 2

    cpdef void ran(self, double begin, double end) noexcept:
        """Take note of a step."""
        cdef int which = self.step // 2 % 2, sample = self.step // 4
        if self.most > 1:
            if self.step >= 0 and self.step % 2:
                self.steps[which][sample] = end - begin
                self.rests[which][sample] = begin - self.ended
            self.step += 1
            if self.step == 2 and self.chosen == 1 and self.steps[0][0] < WAKING:
                self.rest(end)                  # nothing to gain
            elif self.step == LOOK:
                self.decide(end)
            elif self.step == 0 and end < self.rest_until:
                self.step = -1
        self.ended = end

    cdef void rest(self, double until) noexcept:
        self.step = -LEAST_REST
        self.rest_until = until

    cdef void decide(self, double now) noexcept:
        cdef double step = median(self.steps[0]), other_step = median(self.steps[1])
        cdef double loss = other_step - step + clearly_more(self.rests[1], self.rests[0])
        cdef bint more = self.other > self.chosen
        cdef bint won = loss < -WORTH * step if more else loss < WORTH * other_step
        self.looks += 1
        self.measured = ((self.chosen, step, median(self.rests[0])), (self.other, other_step, median(self.rests[1])))
        self.rest(now + abs(loss) * (LOOK // 2) / MOST_LOSS)
        if won:
            self.chosen, self.other = self.other, self.chosen
            if 1 < self.chosen < self.most:     # go on in this direction
                self.step = 0
        else:
            self.direction = -self.direction
