/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tunnel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proxy/bounds.h"

enum {
    /* Four times what a pipe holds by itself: so many system calls less. */
    SPLICE_BYTES = 256 * 1024,
    /* A turn takes one for each direction and mostly empties them.  The kernel counts what all
     * pipes of a user could hold. */
    SPARE_PIPES = 2,
};

/* Empty pipes that wait for the next tunnel with data. */
static int spare_pipes[SPARE_PIPES][2];
static size_t spare_count;

static int take_pipe(struct tunnel_way *way)
{
    if (spare_count > 0) {
        spare_count--;
        way->pipe[0] = spare_pipes[spare_count][0];
        way->pipe[1] = spare_pipes[spare_count][1];
        return 0;
    }
    if (pipe2(way->pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    fcntl(way->pipe[1], F_SETPIPE_SZ, SPLICE_BYTES); /* the usual size does, too */
    return 0;
}

static void give_pipe(struct tunnel_way *way)
{
    if (way->pipe[0] < 0) {
        return;
    }
    if (way->piped == 0 && spare_count < SPARE_PIPES) {
        spare_pipes[spare_count][0] = way->pipe[0];
        spare_pipes[spare_count][1] = way->pipe[1];
        spare_count++;
    } else {
        close(way->pipe[0]);
        close(way->pipe[1]);
    }
    way->pipe[0] = way->pipe[1] = -1;
}

static ssize_t splice_some(int from, int to, size_t len)
{
    ssize_t n;
    do {
        n = splice(from, NULL, to, NULL, len, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t way_fill(struct tunnel_way *way)
{
    int r = way->pipe[0] < 0 ? take_pipe(way) : 0;
    if (r < 0) {
        return r;
    }
    ssize_t n = splice_some(way->from->fd, way->pipe[1], SPLICE_BYTES);
    way->piped += n > 0 ? (size_t)n : 0;
    return n;
}

static ssize_t way_drain(struct tunnel_way *way)
{
    ssize_t n;
    if (way->pending.len > 0) {
        n = stream_write(way->to, way->pending.data, way->pending.len);
        if (n > 0) {
            sb_buf_consume(&way->pending, (size_t)n);
        }
    } else {
        n = splice_some(way->pipe[0], way->to->fd, way->piped);
        way->piped -= n > 0 ? (size_t)n : 0;
    }
    way->bytes += n > 0 ? (uint64_t)n : 0;
    return n;
}

/* One move of data.  1: more may follow, 0: wait, negative: the tunnel is broken. */
static int way_step(struct tunnel_way *way)
{
    if (way->pending.len > 0 || way->piped > 0) {
        ssize_t n = way_drain(way);
        way->wants_write = n == -EAGAIN;
        return n == -EAGAIN ? 0 : n > 0 ? 1 : -EPIPE;
    }
    if (way->from_ended) {
        way->done = true;
        stream_shutdown_write(way->to);
        return 0;
    }
    ssize_t n = way_fill(way);
    way->wants_read = n == -EAGAIN;
    way->from_ended = n == 0;
    return n == -EAGAIN ? 0 : n >= 0 ? 1 : (int)n;
}

/* 1: its turn ended with work left, 0: waits, negative: broken. */
static int way_run(struct tunnel_way *way)
{
    int r = way->done ? 0 : 1;
    way->wants_read = way->wants_write = false;
    for (int round = 0; r == 1 && round < LIMIT_TURN_ROUNDS; round++) {
        r = way_step(way);
    }
    if (way->piped == 0) {
        give_pipe(way);
    }
    if (way->pending.len == 0) {
        sb_buf_done(&way->pending);
    }
    return r;
}

static void on_event(void *arg, uint32_t events);

static void set_watch(struct tunnel *tunnel, sb_watch *watch, const struct stream *stream,
                      uint32_t events)
{
    /* Without interest the descriptor leaves the loop: a hang-up would be reported for ever. */
    if (!events) {
        sb_loop_unwatch(tunnel->loop, *watch);
        *watch = 0;
    } else if (*watch) {
        sb_loop_modify(tunnel->loop, *watch, events);
    } else {
        *watch = sb_loop_watch(tunnel->loop, stream->fd, events, on_event, tunnel);
        tunnel->failed |= !*watch;
    }
}

static void finish(struct tunnel *tunnel)
{
    tunnel_done_fn *done = tunnel->done;
    tunnel->done = NULL;
    if (done) {
        done(tunnel->arg);
    }
}

static void on_idle(void *arg)
{
    finish(arg);
}

static void run(struct tunnel *tunnel);

static void on_turn(void *arg)
{
    run(arg);
}

static void run(struct tunnel *tunnel)
{
    struct tunnel_way *up = &tunnel->up, *down = &tunnel->down;
    int r_up = way_run(up);
    int r_down = way_run(down);
    if (r_up < 0 || r_down < 0 || (up->done && down->done)) {
        finish(tunnel);
        return;
    }
    set_watch(tunnel, &tunnel->client_watch, up->from,
              stream_events(up->from, up->wants_read, down->wants_write));
    set_watch(tunnel, &tunnel->server_watch, up->to,
              stream_events(up->to, down->wants_read, up->wants_write));
    if (tunnel->failed) {
        finish(tunnel);
        return;
    }
    if (r_up == 1 || r_down == 1) {
        sb_loop_timer(tunnel->loop, &tunnel->turn, 1, on_turn, tunnel);
    }
    sb_loop_timer(tunnel->loop, &tunnel->idle, LIMIT_IDLE_MS, on_idle, tunnel);
}

static void on_event(void *arg, uint32_t events)
{
    (void)events;
    run(arg);
}

static void way_init(struct tunnel_way *way, struct stream *from, struct stream *to)
{
    *way = (struct tunnel_way){.from = from, .to = to, .pipe = {-1, -1}};
    sb_buf_init(&way->pending, LIMIT_HEAD_BYTES + LIMIT_BUFFER_BYTES);
}

void tunnel_start(struct tunnel *tunnel, struct sb_loop *loop, struct stream *client,
                  struct stream *server, tunnel_done_fn *done, void *arg)
{
    *tunnel = (struct tunnel){.loop = loop, .done = done, .arg = arg};
    way_init(&tunnel->up, client, server);
    way_init(&tunnel->down, server, client);
    /* The first move happens from the loop, so that the caller can push what it has read. */
    sb_loop_timer(loop, &tunnel->turn, 0, on_turn, tunnel);
}

void tunnel_push(struct tunnel_way *way, const void *data, size_t len)
{
    sb_buf_append(&way->pending, data, len);
}

void tunnel_done(struct tunnel *tunnel)
{
    if (!tunnel->loop) {
        return;
    }
    sb_loop_unwatch(tunnel->loop, tunnel->client_watch);
    sb_loop_unwatch(tunnel->loop, tunnel->server_watch);
    sb_loop_timer_stop(tunnel->loop, &tunnel->idle);
    sb_loop_timer_stop(tunnel->loop, &tunnel->turn);
    give_pipe(&tunnel->up);
    give_pipe(&tunnel->down);
    sb_buf_done(&tunnel->up.pending);
    sb_buf_done(&tunnel->down.pending);
    *tunnel = (struct tunnel){0};
}
