/* Threads of our own and not OpenMP's, for a step lies between two matrix products, whose threads want the same cores:
 *
 *   - The caller waits for no worker that has not come. It works through its own share and then through what the
 *     others have not begun; a worker that the system wakes late, or for which BLAS leaves no core, costs nothing.
 *     OpenMP's loop ends when all threads have arrived at its end.
 *   - How long workers look for the next loop before they sleep is said with each loop. OpenMP reads it once, when the
 *     process loads it (another package may have done so before), and its default is milliseconds, which made loops of
 *     products and steps up to a hundred times slower; with none, waking takes longer than many a step.
 *   - A forked child begins with no workers. OpenMP's waits forever for those that it had.
 *
 * Measured in a loop of three products and a step of Adam, BLAS on one thread, against OpenMP with sleeping workers:
 * 0.85 of the time at 2^19 and 2^20 parameters, 0.9 at 2^16 and 2^18.
 *
 * One loop at a time: who comes while another is running works alone, for the cores are busy. */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* By this symbol threadpoolctl knows the library. */
extern const int fastopt_threads;
__attribute__((visibility("default"))) const int fastopt_threads = 1;

enum { MOST_THREADS = 1024, CACHE_LINE = 64, PATIENCE = 10000 };

/* How many workers are inside the loop; whether it is open to more; and above, the number of the loop. */
enum { INSIDE = 0xffff, OPEN = 0x10000, NEXT = 0x20000 };
static _Alignas(CACHE_LINE) _Atomic uint64_t state;

/* Written by the owner while the loop is closed and nobody inside; who comes too late reads how many threads were wanted,
 * and for how long they stay awake. Each thread has a share, so that from step to step
 * it meets the same memory in its caches; who is done takes from the others'. */
static struct {
    fastopt_body *body;
    const void *context;
    _Atomic int threads;
    _Atomic int64_t spin;
    struct share {
        _Alignas(CACHE_LINE) _Atomic int64_t next;
        int64_t end;
    } shares[MOST_THREADS];
} loop;

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER;
static pthread_t crew[MOST_THREADS]; /* the workers: from 1, as their shares */
static int workers;
static int most_workers = MOST_THREADS - 1; /* fewer where the system refused one */
static struct {
    pthread_t caller;
    int here, workers;
} away; /* how many workers are kept away from which caller, and from where */

static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t alarm_clock = PTHREAD_COND_INITIALIZER;
static _Alignas(CACHE_LINE) _Atomic int sleepers;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void work_through(struct share *share) {
    while (atomic_load_explicit(&share->next, memory_order_relaxed) < share->end) {
        const int64_t i = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed);
        if (i < share->end)
            loop.body(loop.context, i);
    }
}

static void work(int me) {
    const int threads = loop.threads;
    for (int turn = 0; turn < threads; turn++)
        work_through(&loop.shares[(me + turn) % threads]);
}

/* Workers --------------------------------------------------------------------------------------------------------- */

static bool is_over(uint64_t seen) { return atomic_load(&state) / NEXT != seen; }

/* Wait until loop number `seen` is over and another has begun: first awake, then asleep. */
static void wait_for_another(uint64_t seen, int64_t spin) {
    for (const int64_t end = spin ? nanoseconds() + spin : 0; spin && nanoseconds() < end;)
        for (int i = 0; i < 64; i++, relax())
            if (is_over(seen))
                return;
    pthread_mutex_lock(&bed);
    atomic_fetch_add(&sleepers, 1); /* before the look at the state: the owner changes that before it looks at us */
    while (!is_over(seen))
        pthread_cond_wait(&alarm_clock, &bed);
    atomic_fetch_sub(&sleepers, 1);
    pthread_mutex_unlock(&bed);
}

static void *live(void *number) {
    const int me = (int)(intptr_t)number;
    uint64_t seen = 0;
    int64_t spin = 0;
    for (;;) {
        wait_for_another(seen, spin);
        uint64_t now = atomic_load(&state);
        seen = now / NEXT;
        bool entered = false;
        while (me < loop.threads && !entered && (now & OPEN) && now / NEXT == seen)
            entered = atomic_compare_exchange_weak(&state, &now, now + 1);
        spin = me < loop.threads ? loop.spin : 0;
        if (entered && me < loop.threads)
            work(me);
        if (entered)
            atomic_fetch_sub(&state, 1);
    }
    return NULL;
}

static void forget_workers(void) { /* in a forked child, where they are not */
    owner = bed = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    alarm_clock = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    atomic_store(&state, 0);
    atomic_store(&sleepers, 0);
    workers = away.workers = 0;
    most_workers = MOST_THREADS - 1;
}

static void prepare_for_forks(void) { pthread_atfork(NULL, NULL, forget_workers); }

/* Workers leave signals to the threads that were there before. If there can't be so many, there are fewer. */
static void hire(int threads) {
    if (threads - 1 <= workers || workers >= most_workers)
        return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (workers < threads - 1 && workers < most_workers)
        if (pthread_create(&crew[workers + 1], NULL, live, (void *)(intptr_t)(workers + 1)))
            most_workers = workers;
        else
            pthread_detach(crew[++workers]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Linux likes to wake a thread where its waker runs. A worker would wait there for milliseconds, as the caller does not
 * sleep, or take its place; so workers may run wherever their caller may but on its own processor. (Beyond 1,024
 * processors the system does not say where that is, and they run anywhere.) */
static void send_elsewhere(int threads) {
#if defined(__linux__)
    const int here = sched_getcpu(), wanted = threads - 1 < workers ? threads - 1 : workers;
    if (here != away.here || !pthread_equal(pthread_self(), away.caller))
        away.workers = 0;
    if (away.workers >= wanted)
        return;
    cpu_set_t elsewhere;
    if (sched_getaffinity(0, sizeof elsewhere, &elsewhere) == 0) {
        CPU_CLR(here, &elsewhere);
        if (CPU_COUNT(&elsewhere) == 0)
            CPU_SET(here, &elsewhere);
        for (int w = away.workers + 1; w <= wanted; w++)
            pthread_setaffinity_np(crew[w], sizeof elsewhere, &elsewhere);
    }
    away.caller = pthread_self();
    away.here = here;
    away.workers = wanted;
#else
    (void)threads;
#endif
}

/* The owner of a loop --------------------------------------------------------------------------------------------- */

static void open_loop(int64_t count) {
    const int threads = loop.threads;
    for (int t = 0; t < threads; t++) {
        atomic_store_explicit(&loop.shares[t].next, count * t / threads, memory_order_relaxed);
        loop.shares[t].end = count * (t + 1) / threads;
    }
    atomic_fetch_add(&state, NEXT + OPEN);
    if (atomic_load(&sleepers)) {
        pthread_mutex_lock(&bed);
        pthread_cond_broadcast(&alarm_clock);
        pthread_mutex_unlock(&bed);
    }
}

/* Let nobody else in, and wait for those inside, who are at their last element. */
static void close_loop(void) {
    atomic_fetch_sub(&state, OPEN);
    for (int tries = 0; atomic_load(&state) & INSIDE; tries++)
        if (tries < PATIENCE)
            relax();
        else
            sched_yield();
}

void fastopt_share(fastopt_body *body, const void *context, int64_t count, int threads, int64_t spin) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (threads > 1)
        pthread_once(&once, prepare_for_forks); /* before the lock, which a child must find open */
    if (threads < 2 || pthread_mutex_trylock(&owner)) {
        for (int64_t i = 0; i < count; i++)
            body(context, i);
        return;
    }
    threads = threads < MOST_THREADS ? threads : MOST_THREADS;
    hire(threads);
    send_elsewhere(threads);
    loop.body = body;
    loop.context = context;
    loop.threads = threads;
    loop.spin = spin;
    open_loop(count);
    work(0);
    close_loop();
    pthread_mutex_unlock(&owner);
}
