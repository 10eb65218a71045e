/* SPDX-License-Identifier: Apache-2.0
 * A connection on the loop: its stream, the bytes read and not yet understood, the bytes to be
 * written, its watch, its deadline, and the task that runs its owner.
 *
 * Whatever happens (an event, or another connection that has something for this one) only queues
 * the task: so no owner is entered from within another, and one write carries what many events
 * gave rise to. */
#pragma once

#include "base/buf.h"
#include "base/loop.h"
#include "proxy/stream.h"

struct wire {
    struct sb_loop *loop;
    struct stream stream;
    sb_watch watch;
    struct sb_task task;
    struct sb_timer timer;
    uint64_t deadline_ms;
    sb_timer_fn *late; /* the deadline has passed */
    void *owner;
    struct sb_buf in, out;
    uint64_t moved; /* bytes, both ways */
    bool readable;  /* a read may find something */
    bool blocked;   /* the last write found no room */
    bool ended;     /* the far end sends nothing more */
    bool hung_up;   /* both directions are gone */
    bool secret;    /* `out` may hold one: it is wiped when written */
};

/* Takes the descriptor and watches it.  `run` and `late` get `owner`. */
void wire_open(struct wire *wire, struct sb_loop *loop, int fd, sb_timer_fn *run, sb_timer_fn *late,
               void *owner);
void wire_close(struct wire *wire);
/* Hands the stream over; the wire is closed then. */
struct stream wire_release(struct wire *wire);
void wire_wake(struct wire *wire);
/* Replaces the deadline: `late` is called when it has not been moved on by then. */
void wire_deadline(struct wire *wire, uint64_t after_ms);
/* Goes on with the handshake of TLS: 1 when done, -EAGAIN, or -EPROTO. */
int wire_handshake(struct wire *wire);
/* Reads once, at most `max` bytes, to the end of `to`: bytes, 0 at the end, -EAGAIN, or -errno. */
ssize_t wire_read(struct wire *wire, struct sb_buf *to, size_t max);
/* Writes what is in `out`, or in another buffer after it: 0 when all is written, -EAGAIN, or
 * -errno.  What comes by another buffer must be written before anything is added to `out`. */
int wire_flush(struct wire *wire);
int wire_send(struct wire *wire, struct sb_buf *buf);
/* Is there nothing that still has to be written? */
bool wire_is_sent(const struct wire *wire);
/* Gives back what only work needs. */
void wire_rest(struct wire *wire);
/* Says what to wait for: room to write when it is needed, and data when `reading`. */
void wire_wait(struct wire *wire, bool reading);
