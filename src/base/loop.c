/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <time.h>

enum {
    TASKS_A_ROUND = 256 /* then events get their turn */
};

struct slot {
    int fd; /* -1: free */
    uint32_t events;
    uint32_t generation;
    sb_watch_fn *fn;
    void *arg;
    uint32_t next_free; /* index + 1, 0: none */
};

struct sb_loop {
    int epfd;
    bool stop;
    uint64_t now_ms;
    struct slot *slots;
    uint32_t nslots, free_head;
    struct sb_timer **timers; /* a heap: each is due no later than the two at twice its place */
    uint32_t ntimers, timers_room;
    struct sb_task *first_task, *last_task;
};

static uint64_t clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int sb_loop_new(struct sb_loop **ret, struct sb_err **err)
{
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0) {
        return sb_fail_errno(err, errno, "epoll_create1");
    }
    struct sb_loop *loop = sb_xcalloc(1, sizeof(*loop));
    loop->epfd = epfd;
    loop->now_ms = clock_ms();
    *ret = loop;
    return 0;
}

void sb_loop_free(struct sb_loop *loop)
{
    if (!loop) {
        return;
    }
    close(loop->epfd);
    free(loop->slots);
    free(loop->timers);
    free(loop);
}

static sb_watch handle_of(uint32_t index, uint32_t generation)
{
    return (uint64_t)generation << 32 | (index + 1);
}

static struct slot *slot_of(struct sb_loop *loop, sb_watch watch)
{
    uint32_t index = (uint32_t)watch - 1;
    if (!watch || index >= loop->nslots) {
        return NULL;
    }
    struct slot *slot = &loop->slots[index];
    return slot->fd >= 0 && slot->generation == watch >> 32 ? slot : NULL;
}

static void grow_slots(struct sb_loop *loop)
{
    uint32_t old = loop->nslots;
    uint32_t count = old ? old * 2 : 16;
    loop->slots = sb_xrealloc(loop->slots, count, sizeof(*loop->slots));
    for (uint32_t i = count; i-- > old;) {
        loop->slots[i] = (struct slot){.fd = -1, .next_free = loop->free_head};
        loop->free_head = i + 1;
    }
    loop->nslots = count;
}

sb_watch sb_loop_watch(struct sb_loop *loop, int fd, uint32_t events, sb_watch_fn *fn, void *arg)
{
    if (!loop->free_head) {
        grow_slots(loop);
    }
    uint32_t index = loop->free_head - 1;
    struct slot *slot = &loop->slots[index];
    uint32_t generation = slot->generation + 1;
    struct epoll_event event = {.events = events, .data.u64 = handle_of(index, generation)};
    if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &event) < 0) {
        return 0;
    }
    loop->free_head = slot->next_free;
    *slot =
        (struct slot){.fd = fd, .events = events, .generation = generation, .fn = fn, .arg = arg};
    return event.data.u64;
}

void sb_loop_modify(struct sb_loop *loop, sb_watch watch, uint32_t events)
{
    struct slot *slot = slot_of(loop, watch);
    if (slot && slot->events != events) {
        struct epoll_event event = {.events = events, .data.u64 = watch};
        slot->events = events;
        epoll_ctl(loop->epfd, EPOLL_CTL_MOD, slot->fd, &event);
    }
}

void sb_loop_unwatch(struct sb_loop *loop, sb_watch watch)
{
    struct slot *slot = slot_of(loop, watch);
    if (!slot) {
        return;
    }
    epoll_ctl(loop->epfd, EPOLL_CTL_DEL, slot->fd, NULL);
    slot->fd = -1;
    slot->next_free = loop->free_head;
    loop->free_head = (uint32_t)(slot - loop->slots) + 1;
}

/* Places count from 1. */
static void put_timer(const struct sb_loop *loop, struct sb_timer *timer, uint32_t place)
{
    loop->timers[place - 1] = timer;
    timer->place = place;
}

/* Puts the timer at `place`, or where it belongs above or below that. */
static void sift_timer(const struct sb_loop *loop, struct sb_timer *timer, uint32_t place)
{
    while (place > 1 && loop->timers[place / 2 - 1]->due_ms > timer->due_ms) {
        put_timer(loop, loop->timers[place / 2 - 1], place);
        place /= 2;
    }
    for (uint32_t next = place * 2; next <= loop->ntimers; next = place * 2) {
        if (next < loop->ntimers && loop->timers[next]->due_ms < loop->timers[next - 1]->due_ms) {
            next++;
        }
        if (loop->timers[next - 1]->due_ms >= timer->due_ms) {
            break;
        }
        put_timer(loop, loop->timers[next - 1], place);
        place = next;
    }
    put_timer(loop, timer, place);
}

void sb_loop_timer_stop(struct sb_loop *loop, struct sb_timer *timer)
{
    uint32_t place = timer->place;
    if (!place) {
        return;
    }
    timer->place = 0;
    struct sb_timer *last = loop->timers[--loop->ntimers];
    if (last != timer) {
        sift_timer(loop, last, place);
    }
}

void sb_loop_timer(struct sb_loop *loop, struct sb_timer *timer, uint64_t after_ms, sb_timer_fn *fn,
                   void *arg)
{
    timer->due_ms = loop->now_ms + after_ms;
    timer->fn = fn;
    timer->arg = arg;
    if (!timer->place) {
        if (loop->ntimers == loop->timers_room) {
            loop->timers_room = loop->timers_room ? loop->timers_room * 2 : 16;
            loop->timers = sb_xrealloc(loop->timers, loop->timers_room, sizeof(void *));
        }
        timer->place = ++loop->ntimers;
    }
    sift_timer(loop, timer, timer->place);
}

void sb_loop_unqueue(struct sb_loop *loop, struct sb_task *task)
{
    if (!task->queued) {
        return;
    }
    *(task->prev ? &task->prev->next : &loop->first_task) = task->next;
    *(task->next ? &task->next->prev : &loop->last_task) = task->prev;
    task->prev = task->next = NULL;
    task->queued = 0;
}

void sb_loop_queue(struct sb_loop *loop, struct sb_task *task)
{
    if (task->queued) {
        return;
    }
    task->prev = loop->last_task;
    *(loop->last_task ? &loop->last_task->next : &loop->first_task) = task;
    loop->last_task = task;
    task->queued = 1;
}

uint64_t sb_loop_now_ms(const struct sb_loop *loop)
{
    return loop->now_ms;
}

static int wait_ms(const struct sb_loop *loop)
{
    if (loop->first_task) {
        return 0;
    }
    if (!loop->ntimers) {
        return -1;
    }
    if (loop->timers[0]->due_ms <= loop->now_ms) {
        return 0;
    }
    uint64_t left = loop->timers[0]->due_ms - loop->now_ms;
    return left > 3600000 ? 3600000 : (int)left;
}

static void run_timers(struct sb_loop *loop)
{
    while (!loop->stop && loop->ntimers && loop->timers[0]->due_ms <= loop->now_ms) {
        struct sb_timer *timer = loop->timers[0];
        sb_loop_timer_stop(loop, timer);
        timer->fn(timer->arg);
    }
}

static void run_tasks(struct sb_loop *loop)
{
    for (int i = 0; i < TASKS_A_ROUND && !loop->stop && loop->first_task; i++) {
        struct sb_task *task = loop->first_task;
        sb_loop_unqueue(loop, task);
        task->fn(task->arg);
    }
}

int sb_loop_run(struct sb_loop *loop, struct sb_err **err)
{
    struct epoll_event events[64];
    while (!loop->stop) {
        loop->now_ms = clock_ms();
        int n = epoll_wait(loop->epfd, events, 64, wait_ms(loop));
        if (n < 0 && errno != EINTR) {
            return sb_fail_errno(err, errno, "epoll_wait");
        }
        loop->now_ms = clock_ms();
        for (int i = 0; i < n && !loop->stop; i++) {
            const struct slot *slot = slot_of(loop, events[i].data.u64);
            if (slot) {
                slot->fn(slot->arg, events[i].events);
            }
        }
        run_timers(loop);
        run_tasks(loop);
    }
    return 0;
}

void sb_loop_stop(struct sb_loop *loop)
{
    loop->stop = true;
}
