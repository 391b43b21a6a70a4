/* Why not OpenMP? A step runs between two matrix products whose threads use the same cores.
 *
 *   - The caller never waits for a worker that has not arrived. It works through its own share of the loop, then
 *     through the rest of the others' shares; a worker that the system wakes late, or that finds its core taken by
 *     BLAS, costs nothing. An OpenMP loop ends when all threads have reached its end.
 *   - Each loop says how long workers spin after it. OpenMP reads this once, when the process loads it (perhaps for
 *     another package); its default is milliseconds, which made loops of products and steps up to a hundred times
 *     slower. Without spinning, waking a worker takes longer than many steps.
 *   - A forked child starts without workers. In OpenMP it waits forever for those of its parent.
 *
 * Measured in a loop of three products and an Adam step, BLAS on one thread, against OpenMP with sleeping workers:
 * 0.85 of the time at 2^19 and 2^20 parameters, 0.9 at 2^16 and 2^18. */
#include "os_threads.h"

#include "pool.h"

#include <stdatomic.h>

/* threadpoolctl recognizes the library by this symbol. */
#if defined(_WIN32)
__declspec(dllexport)
#else
__attribute__((visibility("default")))
#endif
const int fastopt_threads = 1;

enum { MAX_THREADS = 1024, CACHE_LINE = 64, SPINS_BEFORE_YIELD = 10000 };

/* The number of the loop in the high bits, whether workers may still enter it, and how many are inside. */
enum { INSIDE = 0xffff, OPEN = 0x10000, NEXT = 0x20000 };
static _Alignas(CACHE_LINE) _Atomic uint64_t state;

/* The current loop. It is written only while the loop is closed and no worker is inside; a worker that comes too late
 * reads `threads` and `spin`. Each thread has its own share of the indices, so that from step to step it finds its
 * data in its caches; a thread that has finished its share takes indices from the others. */
static struct {
    fastopt_body *body;
    const void *context;
    _Atomic int threads;
    _Atomic int64_t spin;
    struct share {
        _Alignas(CACHE_LINE) _Atomic int64_t next;
        int64_t end;
    } shares[MAX_THREADS];
} loop;

static mutex run_lock = MUTEX_INITIALIZER;
static thread threads[MAX_THREADS]; /* workers have the indices of their shares, from 1 */
static int worker_count;
static int max_workers = MAX_THREADS - 1; /* lower after the system has refused one */
static struct {
    thread caller;
    int processor, workers;
} affinity_cache; /* how many workers are kept off which caller's processor */

static mutex sleep_mutex = MUTEX_INITIALIZER;
static condition wake_cond = CONDITION_INITIALIZER;
static _Alignas(CACHE_LINE) _Atomic int sleepers;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void run_share(struct share *share) {
    while (atomic_load_explicit(&share->next, memory_order_relaxed) < share->end) {
        const int64_t i = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed);
        if (i < share->end)
            loop.body(loop.context, i);
    }
}

/* Run the thread's own share, then the rest of the others'. */
static void run_shares(int thread) {
    const int count = loop.threads;
    for (int k = 0; k < count; k++)
        run_share(&loop.shares[(thread + k) % count]);
}

/* Workers --------------------------------------------------------------------------------------------------------- */

static bool has_next_loop(uint64_t seen) { return atomic_load(&state) / NEXT != seen; }

/* Wait until a loop after number `seen` has started: spin first, then sleep. */
static void wait_for_next_loop(uint64_t seen, int64_t spin) {
    for (const int64_t end = spin ? nanoseconds() + spin : 0; spin && nanoseconds() < end;)
        for (int i = 0; i < 64; i++, relax())
            if (has_next_loop(seen))
                return;
    mutex_lock(&sleep_mutex);
    atomic_fetch_add(&sleepers, 1); /* before reading the state: the caller writes that before it reads this */
    while (!has_next_loop(seen))
        condition_wait(&wake_cond, &sleep_mutex);
    atomic_fetch_sub(&sleepers, 1);
    mutex_unlock(&sleep_mutex);
}

static THREAD_MAIN(worker_main, index) {
    const int me = (int)(intptr_t)index;
    uint64_t seen = 0;
    int64_t spin = 0;
    for (;;) {
        wait_for_next_loop(seen, spin);
        uint64_t now = atomic_load(&state);
        seen = now / NEXT;
        bool entered = false;
        while (me < loop.threads && !entered && (now & OPEN) && now / NEXT == seen)
            entered = atomic_compare_exchange_weak(&state, &now, now + 1);
        spin = me < loop.threads ? loop.spin : 0;
        if (entered && me < loop.threads)
            run_shares(me);
        if (entered)
            atomic_fetch_sub(&state, 1);
    }
    return 0; /* never reached; gcc and clang warn without it */
}

static void spawn_workers(int count) {
    while (worker_count < count && worker_count < max_workers)
        if (thread_start(&threads[worker_count + 1], worker_main, (void *)(intptr_t)(worker_count + 1)))
            worker_count++;
        else
            max_workers = worker_count;
}

/* Linux tends to wake a thread on its waker's processor, where it would wait a full time slice for the busy caller. So
 * workers may run wherever the caller may, except on its processor; renewed when the caller has moved. (Beyond 1,024
 * processors sched_getaffinity fails, and workers run anywhere.) */
static void unpin_from_caller(int workers) {
#if defined(__linux__)
    const int processor = sched_getcpu();
    if (processor != affinity_cache.processor || !pthread_equal(pthread_self(), affinity_cache.caller))
        affinity_cache.workers = 0;
    if (affinity_cache.workers >= workers)
        return;
    cpu_set_t others;
    if (sched_getaffinity(0, sizeof others, &others) == 0) {
        CPU_CLR(processor, &others);
        if (CPU_COUNT(&others) == 0)
            CPU_SET(processor, &others);
        for (int w = affinity_cache.workers + 1; w <= workers; w++)
            pthread_setaffinity_np(threads[w], sizeof others, &others);
    }
    affinity_cache.caller = pthread_self();
    affinity_cache.processor = processor;
#endif
    affinity_cache.workers = workers;
}

#if !defined(_WIN32)
/* A forked child has none of its parent's threads. */
static void reset_in_child(void) {
    run_lock = sleep_mutex = (mutex)MUTEX_INITIALIZER;
    wake_cond = (condition)CONDITION_INITIALIZER;
    atomic_store(&state, 0);
    atomic_store(&sleepers, 0);
    worker_count = affinity_cache.workers = 0;
    max_workers = MAX_THREADS - 1;
}

__attribute__((constructor)) static void register_fork_handler(void) { pthread_atfork(NULL, NULL, reset_in_child); }
#endif

/* The caller ------------------------------------------------------------------------------------------------------ */

static void open_loop(int64_t count) {
    const int n = loop.threads;
    for (int t = 0; t < n; t++) {
        atomic_store_explicit(&loop.shares[t].next, count * t / n, memory_order_relaxed);
        loop.shares[t].end = count * (t + 1) / n;
    }
    atomic_fetch_add(&state, NEXT + OPEN);
    if (atomic_load(&sleepers)) {
        mutex_lock(&sleep_mutex);
        condition_broadcast(&wake_cond);
        mutex_unlock(&sleep_mutex);
    }
}

/* Let no more workers in, and wait for those inside, which are at their last index. */
static void close_loop(void) {
    atomic_fetch_sub(&state, OPEN);
    for (int spins = 0; atomic_load(&state) & INSIDE; spins++)
        if (spins < SPINS_BEFORE_YIELD)
            relax();
        else
            yield_processor();
}

void fastopt_pool_for(fastopt_body *body, const void *context, int64_t count, int thread_count, int64_t spin) {
    if (thread_count < 2 || !mutex_try_lock(&run_lock)) {
        for (int64_t i = 0; i < count; i++)
            body(context, i);
        return;
    }
    thread_count = thread_count < MAX_THREADS ? thread_count : MAX_THREADS;
    spawn_workers(thread_count - 1);
    unpin_from_caller(thread_count - 1 < worker_count ? thread_count - 1 : worker_count);
    loop.body = body;
    loop.context = context;
    loop.threads = thread_count;
    loop.spin = spin;
    open_loop(count);
    run_shares(0);
    close_loop();
    mutex_unlock(&run_lock);
}
