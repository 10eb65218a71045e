/* SPDX-License-Identifier: Apache-2.0
 * The processor's time stamp counter: how fast it counts.
 *
 * Without hardware virtualization a guest reads the host's counter and cannot find out its speed:
 * its kernel hangs now and then when it tries, unless it is told (tsc_early_khz=).  The kernel's
 * own figure stands in a log that ordinary users may not read, so it is measured. */
#pragma once

#include <stdint.h>

/* A moment, by the counter and by the clock. */
struct cpu_moment {
    uint64_t ticks;
    int64_t ns;
};

struct cpu_moment cpu_now(void);
/* Thousands of ticks a second since `start`: the longer ago that is, the more exact.  Waits until
 * 10 ms have passed, which are good for 10 parts in a million. */
unsigned cpu_tsc_khz(const struct cpu_moment *start);
