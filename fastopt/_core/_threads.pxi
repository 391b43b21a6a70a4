# On how many threads a step runs. A part of _kernels.pyx.
#
# The results don't depend on it, so a plan measures, in the caller's own loop, and keeps what is faster: one thread, or
# more whose workers sleep between steps, or more whose workers stay awake. What it measures is the whole iteration,
# from the end of a step to the end of the next: threads can cost more in the matrix product behind the step, which
# wants the same cores, than they save in the step.

cdef enum:
    PAIRS = 4                                   # samples of each choice in a look
    LEAST_REST = 64                             # steps between two looks, at least
    NEIGHBOURS = 4                              # of a choice, at most

cdef double SHORT = 8e-6                        # seconds of a step that is not worth sharing
cdef double WAKING = 100e-6                     # seconds after which a worker that was asleep is there
cdef double MOST_LOSS = 0.01                    # of all time, for looking
cdef double WORTH = 0.05                        # of a step: what a choice that takes more must save
cdef double MOST_SPIN = 10e-3                   # seconds that workers stay awake
cdef int64_t NEVER_SHARED = 2**14               # elements below which no step takes so long as SHORT

cdef int fixed_threads = 1                      # for every step, or 0: measure
cdef int most_threads = 1
cdef int limit = 0                              # of somebody else, threadpoolctl, say; 0: none
cdef bint may_spin = True


def use_threads(int fixed, int most):
    """Run steps on ``fixed`` threads, or with 0 on as many, up to ``most``, as measure best."""
    global fixed_threads, most_threads
    fixed_threads, most_threads = fixed, most


def use_spinning(bint allowed):
    """Whether workers may stay awake between steps where that measures best."""
    global may_spin
    may_spin = allowed


def limit_threads(int threads):
    """Use no more than this, whatever else is set; 0 takes the limit away."""
    global limit
    limit = threads


cpdef int limited(int threads) noexcept:
    """Give so many, or what the limit leaves."""
    return min(threads, limit) if limit else threads


cdef double seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef void sort(double *samples) noexcept:
    """Order the PAIRS samples."""
    cdef double sample
    cdef int i, j
    for i in range(1, PAIRS):
        sample, j = samples[i], i
        while j > 0 and samples[j - 1] > sample:
            samples[j] = samples[j - 1]
            j -= 1
        samples[j] = sample


cdef double median(const double *ordered) noexcept:
    return (ordered[(PAIRS - 1) // 2] + ordered[PAIRS // 2]) / 2


cdef double spread(const double *ordered) noexcept:
    """The mean distance from the median."""
    cdef double total = 0.0
    cdef int i
    for i in range(PAIRS // 2):
        total += ordered[PAIRS - 1 - i] - ordered[i]
    return total / PAIRS


cdef double above_noise(double difference, double noise) noexcept:
    """What is left of a difference when the noise is taken off."""
    return max(difference - noise, 0.0) + min(difference + noise, 0.0)


cdef struct Choice:
    int threads
    bint awake                                  # the workers, between steps


cdef bint takes_more(Choice a, Choice b) noexcept:
    return a.threads > b.threads or (a.threads == b.threads and a.awake and not b.awake)


cdef class Tuner:
    """Chooses how a step runs by measuring, now and then, two neighbouring choices in turn.

    ``ask(most)`` before a step, and ``threads`` and ``awake`` are what to do; ``tell(begin, end)`` behind it, in
    seconds. In a look each choice has some steps in a row, a block, and the second half of them is a sample: by then
    workers are as awake as they will be, and what they did to the iteration before belongs to it. All neighbours of a
    new choice are looked at without a break, then one now and then, so seldom that looking costs a hundredth of the
    time.
    """

    cdef readonly int threads                   # for the step that comes
    cdef readonly bint awake
    cdef readonly int looks
    cdef readonly tuple measured                # (threads, awake, seconds of a step, of the rest) of both, in a look
    cdef int most
    cdef Choice chosen, other
    cdef int turn, untried                      # which neighbour comes, and how many are to come without a break
    cdef int step                               # of a look, or below 0: of a rest
    cdef int block                              # steps of a choice in a row
    cdef double ended                           # the last step
    cdef double rest                            # seconds since then
    cdef double lost                            # by looking, since the last break
    cdef double rest_until
    cdef double steps[2][PAIRS]                 # seconds of the steps: chosen, other
    cdef double rests[2][PAIRS]                 # seconds between them

    def __init__(self):
        self.begin(1)

    cdef void begin(self, int most) noexcept:
        self.most, self.looks, self.measured = most, 0, ()
        self.threads, self.awake = 1, False
        self.ended = self.rest = self.lost = self.rest_until = 0.0
        self.choose(Choice(1, False))
        self.step = -2                          # the first has no rest before it

    cdef void choose(self, Choice choice) noexcept:
        self.chosen = choice
        self.turn, self.untried, self.step = 0, self.neighbours(), -1

    cpdef void ask(self, int most) noexcept:
        """Say how the next step runs."""
        cdef Choice choice
        if most != self.most:
            self.begin(most)
        choice = self.other if self.step >= 0 and self.step // self.block % 2 else self.chosen
        self.threads, self.awake = choice.threads, choice.awake

    cdef Choice neighbour(self, int which) noexcept:
        """More threads, with workers asleep or awake; as many, the other way; fewer. 0 threads where there is none."""
        cdef int threads = self.chosen.threads
        if which < 2 and threads < self.most:
            return Choice(min(2 * threads, self.most), which == 1)
        if which == 2 and threads > 1:
            return Choice(threads, not self.chosen.awake)
        if which == 3 and threads > 1:
            return Choice((threads + 1) // 2, self.chosen.awake and threads > 2)
        return Choice(0, False)

    cdef bint exists(self, Choice choice) noexcept:
        return choice.threads > 0 and (may_spin or not choice.awake)

    cdef int neighbours(self) noexcept:
        cdef int which, count = 0
        for which in range(NEIGHBOURS):
            count += self.exists(self.neighbour(which))
        return count

    cdef Choice next_neighbour(self) noexcept:
        cdef int tries
        for tries in range(NEIGHBOURS):
            self.turn = (self.turn + 1) % NEIGHBOURS
            if self.exists(self.neighbour(self.turn)):
                break
        return self.neighbour(self.turn)

    cpdef void tell(self, double begin, double end) noexcept:
        """Take note of a step."""
        cdef double step = end - begin
        self.rest = begin - self.ended
        self.ended = end
        if self.most == 1:
            return
        if self.step >= 0:
            self.sample(step)
        self.step += 1
        if self.step < 0:
            return
        if self.step == 0 and end < self.rest_until:
            self.step = -1
        elif self.step == 0 and self.chosen.threads == 1 and step < SHORT:
            self.take_a_break()
        elif self.step == 0:
            self.begin_look(step + self.rest)
        elif self.step >= 2 * PAIRS * self.block:
            self.step = -1                      # first, for what follows may let others run
            self.decide()

    cdef void begin_look(self, double iteration) noexcept:
        self.other = self.next_neighbour()
        self.block = 2 * <int>max(ceil(WAKING / max(iteration, 1e-6)), 1.0)
        memset(self.steps, 0, sizeof(self.steps))
        memset(self.rests, 0, sizeof(self.rests))

    cdef void sample(self, double step) noexcept:
        cdef int which = self.step // self.block % 2, pair = self.step // self.block // 2, half = self.block // 2
        if self.step % self.block >= half:
            self.steps[which][pair] += step / half
            self.rests[which][pair] += self.rest / half

    cdef void decide(self) noexcept:
        cdef double step, rest, other_step, other_rest, loss
        cdef bint more = takes_more(self.other, self.chosen)
        cdef int which
        for which in range(2):
            sort(self.steps[which])
            sort(self.rests[which])
        step, other_step = median(self.steps[0]), median(self.steps[1])
        rest, other_rest = median(self.rests[0]), median(self.rests[1])
        loss = other_step - step + above_noise(other_rest - rest, (spread(self.rests[0]) + spread(self.rests[1])) / 2)
        self.looks += 1
        self.measured = (
            (self.chosen.threads, self.chosen.awake, step, rest),
            (self.other.threads, self.other.awake, other_step, other_rest))
        self.lost += abs(loss) * PAIRS * self.block
        self.untried -= 1
        if loss < -WORTH * step if more else loss < WORTH * other_step:
            self.choose(self.other)
        elif self.untried > 0:
            self.step = -1
        else:
            self.take_a_break()

    cdef void take_a_break(self) noexcept:
        self.step = -LEAST_REST
        self.rest_until = self.ended + self.lost / MOST_LOSS
        self.lost = 0.0

    cdef int64_t spin(self) noexcept:
        """Nanoseconds that workers stay awake: until the next step, if that is near."""
        return <int64_t>(1e9 * max(2 * self.rest, WAKING)) if self.awake and 2 * self.rest < MOST_SPIN else 0
