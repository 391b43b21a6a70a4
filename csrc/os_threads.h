/* Threads and the clock of the operating system: Win32 or POSIX. (C11's threads.h is missing on macOS and old glibc.)
 * Include this file before others: glibc and musl declare processor affinity only with this macro. */
#ifndef FASTOPT_OS_THREADS_H
#define FASTOPT_OS_THREADS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stdint.h>

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef SRWLOCK mutex;
typedef CONDITION_VARIABLE condition;
typedef HANDLE thread;
typedef DWORD WINAPI thread_main(void *argument);
#define MUTEX_INITIALIZER SRWLOCK_INIT
#define CONDITION_INITIALIZER CONDITION_VARIABLE_INIT
#define THREAD_MAIN(name, argument) DWORD WINAPI name(void *argument)

static inline bool mutex_try_lock(mutex *m) { return TryAcquireSRWLockExclusive(m); }
static inline void mutex_lock(mutex *m) { AcquireSRWLockExclusive(m); }
static inline void mutex_unlock(mutex *m) { ReleaseSRWLockExclusive(m); }
static inline void condition_wait(condition *c, mutex *m) { SleepConditionVariableSRW(c, m, INFINITE, 0); }
static inline void condition_broadcast(condition *c) { WakeAllConditionVariable(c); }
static inline void yield_processor(void) { SwitchToThread(); }

static inline bool thread_start(thread *t, thread_main *body, void *argument) {
    *t = CreateThread(NULL, 0, body, argument, 0, NULL);
    return *t != NULL;
}

static inline int64_t nanoseconds(void) {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return ticks.QuadPart / per_second.QuadPart * 1000000000 +
           ticks.QuadPart % per_second.QuadPart * 1000000000 / per_second.QuadPart;
}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

typedef pthread_mutex_t mutex;
typedef pthread_cond_t condition;
typedef pthread_t thread;
typedef void *thread_main(void *argument);
#define MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER
#define CONDITION_INITIALIZER PTHREAD_COND_INITIALIZER
#define THREAD_MAIN(name, argument) void *name(void *argument)

static inline bool mutex_try_lock(mutex *m) { return pthread_mutex_trylock(m) == 0; }
static inline void mutex_lock(mutex *m) { pthread_mutex_lock(m); }
static inline void mutex_unlock(mutex *m) { pthread_mutex_unlock(m); }
static inline void condition_wait(condition *c, mutex *m) { pthread_cond_wait(c, m); }
static inline void condition_broadcast(condition *c) { pthread_cond_broadcast(c); }
static inline void yield_processor(void) { sched_yield(); }

/* The thread blocks all signals, which are left to the threads of the program. */
static inline bool thread_start(thread *t, thread_main *body, void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const bool started = pthread_create(t, NULL, body, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started && pthread_detach(*t) == 0;
}

static inline int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
#endif
