/* The machine as a simulated thread sees it: time that passes only when the thread sleeps, and randomness from a seed.
 *
 * A thread is simulated when its name is "sim-" and a number, the seed. Every other thread gets the system's own answers.
 * These functions stand in the place of the C library's in the programs of crates/simulation, and nowhere else: so services
 * run as they are, without a clock being handed through all of them, and nothing of this is in what is shipped.
 *
 * A simulated thread stays on the core it began on, and with it the threads that it starts for its databases: it hands each
 * statement to one of them and waits, so that they never run at once, and waking a neighbour costs less than another core.
 *
 * A sleep of 999,999,999 ns beyond whole seconds moves the calendar by those seconds and lets no time pass: a clock that
 * jumps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* 2026-03-02T09:00:00Z */
#define CALENDAR 1772442000ULL
/* Longer than any machine has been up, so that the kernel never takes a simulated deadline for one that has passed. */
#define UP 1000000000ULL
#define SECOND 1000000000ULL

/* 0 as long as it is not known, 1 for a simulated thread, -1 for one of a database. */
static __thread int simulated;
static __thread uint64_t elapsed, jumped, randomness;

static void stay_here(void) {
    cpu_set_t here;
    int core = sched_getcpu();
    if (core >= 0) {
        CPU_ZERO(&here);
        CPU_SET((size_t)core, &here);
        /* Where it is refused, everything is as it is, only slower. */
        (void)sched_setaffinity(0, sizeof here, &here);
    }
}

static int is_simulated(void) {
    char name[16];
    if (simulated) {
        return simulated > 0;
    }
    if (pthread_getname_np(pthread_self(), name, sizeof name) != 0) {
        return 0;
    }
    if (strncmp(name, "sqlx-", 5) == 0) {
        simulated = -1;
    }
    if (strncmp(name, "sim-", 4) != 0) {
        return 0;
    }
    simulated = 1;
    randomness = strtoull(name + 4, NULL, 10);
    stay_here();
    return 1;
}

/* The C library's own, which asks the kernel only when it must. */
static int real_time(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    return real ? real(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    uint64_t since;
    if (!is_simulated()) {
        return real_time(clock, now);
    }
    switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
        since = UP * SECOND + elapsed;
        break;
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        since = CALENDAR * SECOND + elapsed + jumped;
        break;
    default:
        return real_time(clock, now);
    }
    now->tv_sec = (time_t)(since / SECOND);
    now->tv_nsec = (long)(since % SECOND);
    return 0;
}

static void slept(const struct timespec *for_how_long) {
    uint64_t seconds = (uint64_t)for_how_long->tv_sec, nanos = (uint64_t)for_how_long->tv_nsec;
    if (nanos == SECOND - 1) {
        jumped += seconds * SECOND;
    } else {
        elapsed += seconds * SECOND + nanos;
    }
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *left) {
    if (is_simulated()) {
        if (flags & TIMER_ABSTIME) {
            return ENOTSUP;
        }
        slept(request);
        return 0;
    }
    return syscall(SYS_clock_nanosleep, clock, flags, request, left) == 0 ? 0 : errno;
}

int nanosleep(const struct timespec *request, struct timespec *left) {
    if (is_simulated()) {
        slept(request);
        return 0;
    }
    return (int)syscall(SYS_nanosleep, request, left);
}

/* SplitMix64 */
static uint64_t next(void) {
    uint64_t z = (randomness += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    size_t done = 0;
    if (!is_simulated()) {
        return syscall(SYS_getrandom, buffer, length, flags);
    }
    while (done < length) {
        uint64_t word = next();
        size_t part = length - done < sizeof word ? length - done : sizeof word;
        memcpy((char *)buffer + done, &word, part);
        done += part;
    }
    return (ssize_t)length;
}
