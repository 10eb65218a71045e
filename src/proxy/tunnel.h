/* SPDX-License-Identifier: Apache-2.0
 * A raw tunnel: bytes both ways between two streams until both directions have ended.
 *
 * A short message is read and written at once, which costs least; what fills a read is taken for
 * the beginning of more, and spliced through a pipe that is held only while data is on its way.  So
 * an idle tunnel costs its two sockets and this structure.  The streams, which carry no TLS of
 * ours, belong to the caller. */
#pragma once

#include "base/buf.h"
#include "base/loop.h"
#include "proxy/stream.h"

struct tunnel_way {
    struct stream *from, *to;
    struct sb_buf pending; /* read and not yet written */
    int pipe[2];           /* -1: none held */
    size_t piped;
    uint64_t bytes;
    bool readable; /* a read may find something */
    bool blocked;  /* the last write found no room */
    bool bulk;     /* much comes at once: it is spliced */
    bool from_ended, done;
};

typedef void tunnel_done_fn(void *arg);

struct tunnel {
    struct sb_loop *loop;
    struct tunnel_way up, down;
    sb_watch client_watch, server_watch;
    struct sb_timer idle;
    struct sb_task task;
    tunnel_done_fn *done;
    void *arg;
    bool failed;
};

/* Starts; `sent_up` and `sent_down` are bytes that were read early and go first (moved out). `done`
 * is called once, from the loop, after which the caller frees the tunnel with tunnel_done(). */
void tunnel_start(struct tunnel *tunnel, struct sb_loop *loop, struct stream *client,
                  struct stream *server, tunnel_done_fn *done, void *arg);
/* Queues bytes that were read before the tunnel began; before the first event only. */
void tunnel_push(struct tunnel_way *way, const void *data, size_t len);
void tunnel_done(struct tunnel *tunnel);
