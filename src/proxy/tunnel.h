/* SPDX-License-Identifier: Apache-2.0
 * A raw tunnel: bytes both ways between two streams until both directions have ended.
 *
 * The sockets are spliced through a pipe that is held only while data is on its way, so an idle
 * tunnel costs its two sockets and this structure.  The streams, which carry no TLS of ours, belong
 * to the caller. */
#pragma once

#include "base/buf.h"
#include "base/loop.h"
#include "proxy/stream.h"

struct tunnel_way {
    struct stream *from, *to;
    struct sb_buf pending;
    int pipe[2]; /* -1: none held */
    size_t piped;
    uint64_t bytes;
    bool from_ended, done, wants_read, wants_write;
};

typedef void tunnel_done_fn(void *arg);

struct tunnel {
    struct sb_loop *loop;
    struct tunnel_way up, down;
    sb_watch client_watch, server_watch;
    struct sb_timer idle, turn;
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
