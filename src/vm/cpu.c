/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu.h"

#include <time.h>
#include <x86intrin.h>

enum { TRIES = 32, WINDOW_NS = 10000000 };

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Of several tries the one with the least time between the two looks at the clock: in the others
 * something else ran meanwhile. */
struct cpu_moment cpu_now(void)
{
    struct cpu_moment best = {0};
    int64_t best_width = INT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        int64_t before = clock_ns();
        uint64_t ticks = __rdtsc();
        int64_t width = clock_ns() - before;
        if (width < best_width) {
            best_width = width;
            best = (struct cpu_moment){ticks, before + width / 2};
        }
    }
    return best;
}

unsigned cpu_tsc_khz(const struct cpu_moment *start)
{
    int64_t left = start->ns + WINDOW_NS - clock_ns();
    if (left > 0) {
        nanosleep(&(struct timespec){.tv_nsec = left}, NULL);
    }
    struct cpu_moment end = cpu_now();
    double ms = (double)(end.ns - start->ns) / 1e6;
    return (unsigned)((double)(end.ticks - start->ticks) / ms + 0.5);
}
