/* SPDX-License-Identifier: Apache-2.0
 * A single-threaded event loop on epoll, with timers.
 *
 * A watch is named by an `sb_watch` handle (slot and generation), so an event that was already
 * queued for a watch that has since been removed is recognised as stale and dropped: callbacks may
 * remove any watch, their own included, at any time.  The loop does not own descriptors. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct sb_loop;
typedef uint64_t sb_watch; /* 0 is no watch */
/* `events` are EPOLL* bits. */
typedef void sb_watch_fn(void *arg, uint32_t events);
typedef void sb_timer_fn(void *arg);

/* A timer lives inside the object that it wakes; zero-initialise it, stop it before freeing. */
struct sb_timer {
    uint64_t due_ms;
    sb_timer_fn *fn;
    void *arg;
    uint32_t place; /* 0: not armed; else the loop's own affair */
};

/* Work for the end of this round, after all events that are there and before the loop sleeps: what
 * several events give rise to is done once.  Lives inside its object like a timer. */
struct sb_task {
    sb_timer_fn *fn;
    void *arg;
    struct sb_task *prev, *next; /* private to the loop */
    int queued;
};

int sb_loop_new(struct sb_loop **ret, struct sb_err **err);
void sb_loop_free(struct sb_loop *loop);
/* Watches `fd` for `events`; returns 0 when the kernel refuses (descriptor or memory limit). */
sb_watch sb_loop_watch(struct sb_loop *loop, int fd, uint32_t events, sb_watch_fn *fn, void *arg);
void sb_loop_modify(struct sb_loop *loop, sb_watch watch, uint32_t events);
/* Must come before the descriptor is closed.  Watch 0 is ignored. */
void sb_loop_unwatch(struct sb_loop *loop, sb_watch watch);
/* (Re)arms the timer. */
void sb_loop_timer(struct sb_loop *loop, struct sb_timer *timer, uint64_t after_ms, sb_timer_fn *fn,
                   void *arg);
void sb_loop_timer_stop(struct sb_loop *loop, struct sb_timer *timer);
/* Queues task->fn(task->arg), unless it is queued already. */
void sb_loop_queue(struct sb_loop *loop, struct sb_task *task);
void sb_loop_unqueue(struct sb_loop *loop, struct sb_task *task);
/* Monotonic milliseconds, taken once per round. */
uint64_t sb_loop_now_ms(const struct sb_loop *loop);
/* Runs until sb_loop_stop(). */
int sb_loop_run(struct sb_loop *loop, struct sb_err **err);
void sb_loop_stop(struct sb_loop *loop);
