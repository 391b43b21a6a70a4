/* Check the thread pool of the library, for systems on which Python does not run here: every index of a loop runs once,
 * on one thread or many, with workers that sleep or spin; workers wake for every loop; two threads may call it. */
#include "os_threads.h"

#include "pool.h"

#include <stdatomic.h>
#include <stdio.h>

enum { LOOPS = 300, COUNT = 100 };
static const int64_t spins[] = {0, 1000, 1000000}; /* nanoseconds */

static _Atomic int failures;

static void count_run(const void *context, int64_t i) { atomic_fetch_add(&((_Atomic int *)context)[i], 1); }

static void check_indices_run_once(void) {
    _Atomic int runs[COUNT] = {0};
    for (int n = 0; n < LOOPS; n++) {
        const int count = n % COUNT, threads = n % 7;
        fastopt_pool_for(count_run, runs, count, threads, spins[n % 3]);
        for (int i = 0; i < COUNT; i++)
            if (atomic_exchange(&runs[i], 0) != (i < count))
                failures++;
    }
}

/* Return when all indices of the loop are running, each on a thread of its own. */
static void meet(const void *context, int64_t i) {
    _Atomic int *arrived = (_Atomic int *)context;
    (void)i;
    for (atomic_fetch_add(arrived, 1); atomic_load(arrived) < 3;)
        yield_processor();
}

static void check_workers_wake(void) {
    for (int n = 0; n < LOOPS; n++) {
        _Atomic int arrived = 0;
        fastopt_pool_for(meet, &arrived, 3, 3, spins[n % 3]);
        failures += arrived != 3;
    }
}

static _Atomic bool other_is_done;

static THREAD_MAIN(call_from_another_thread, argument) {
    (void)argument;
    check_indices_run_once();
    atomic_store(&other_is_done, true);
    return 0;
}

int main(void) {
    thread other;
    check_workers_wake();
    check_indices_run_once();
    if (!thread_start(&other, call_from_another_thread, NULL))
        return 2;
    check_indices_run_once();
    while (!atomic_load(&other_is_done))
        yield_processor();
    printf("%d failures\n", (int)failures);
    return failures ? 1 : 0;
}
