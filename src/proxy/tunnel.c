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

static ssize_t fill_pipe(struct tunnel_way *way)
{
    int r = way->pipe[0] < 0 ? take_pipe(way) : 0;
    if (r < 0) {
        return r;
    }
    ssize_t n = splice_some(way->from->fd, way->pipe[1], SPLICE_BYTES);
    way->piped += n > 0 ? (size_t)n : 0;
    way->bulk = n < 0 || n >= LIMIT_READ_BYTES;
    return n;
}

/* A short read has emptied the socket, a short write has filled it: the loop says when that
 * changes.
 */
static ssize_t copy_some(struct tunnel_way *way)
{
    static char data[LIMIT_READ_BYTES]; /* large, and used for one call only */
    ssize_t n = stream_read(way->from, data, sizeof(data));
    if (n <= 0) {
        return n;
    }
    way->readable = way->bulk = (size_t)n == sizeof(data);
    ssize_t sent = stream_write(way->to, data, (size_t)n);
    if (sent < 0 && sent != -EAGAIN) {
        return -EPIPE;
    }
    sent = sent < 0 ? 0 : sent;
    way->bytes += (uint64_t)sent;
    if (sent < n) {
        way->blocked = true;
        sb_buf_append(&way->pending, data + sent, (size_t)(n - sent));
    }
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

static bool holds(const struct tunnel_way *way)
{
    return way->pending.len > 0 || way->piped > 0;
}

/* One move of data.  1: more may follow, 0: wait, negative: the tunnel is broken. */
static int way_step(struct tunnel_way *way)
{
    if (way->blocked) {
        return 0;
    }
    if (holds(way)) {
        ssize_t n = way_drain(way);
        way->blocked = n == -EAGAIN;
        return way->blocked ? 0 : n > 0 ? 1 : -EPIPE;
    }
    if (way->from_ended) {
        way->done = true;
        stream_shutdown_write(way->to);
        return 0;
    }
    if (!way->readable) {
        return 0;
    }
    ssize_t n = way->bulk ? fill_pipe(way) : copy_some(way);
    way->readable &= n != -EAGAIN;
    way->from_ended = n == 0;
    return n == -EAGAIN ? 0 : n >= 0 ? 1 : (int)n;
}

/* 1: its turn ended with work left, 0: waits, negative: broken. */
static int way_run(struct tunnel_way *way)
{
    int r = way->done ? 0 : 1;
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

/* ---- Both ways ---- */

static void on_side(struct tunnel *tunnel, struct tunnel_way *from, struct tunnel_way *to,
                    uint32_t events)
{
    bool gone = events & (EPOLLHUP | EPOLLERR);
    from->readable |= gone || events & EPOLLIN;
    to->blocked &= !gone && !(events & EPOLLOUT);
    sb_loop_queue(tunnel->loop, &tunnel->task);
}

static void on_client(void *arg, uint32_t events)
{
    struct tunnel *tunnel = arg;
    on_side(tunnel, &tunnel->up, &tunnel->down, events);
}

static void on_server(void *arg, uint32_t events)
{
    struct tunnel *tunnel = arg;
    on_side(tunnel, &tunnel->down, &tunnel->up, events);
}

/* Waits at the end where `from` begins and `to` leads. */
static void set_watch(struct tunnel *tunnel, sb_watch *watch, const struct tunnel_way *from,
                      const struct tunnel_way *to, sb_watch_fn *fn)
{
    uint32_t events = stream_events(from->from, !from->from_ended && !holds(from), to->blocked);
    /* Without interest the descriptor leaves the loop: a hang-up would be reported for ever. */
    if (!events) {
        sb_loop_unwatch(tunnel->loop, *watch);
        *watch = 0;
    } else if (*watch) {
        sb_loop_modify(tunnel->loop, *watch, events);
    } else {
        *watch = sb_loop_watch(tunnel->loop, from->from->fd, events, fn, tunnel);
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

static void run(void *arg)
{
    struct tunnel *tunnel = arg;
    struct tunnel_way *up = &tunnel->up, *down = &tunnel->down;
    int r_up = way_run(up);
    int r_down = way_run(down);
    if (r_up < 0 || r_down < 0 || (up->done && down->done)) {
        finish(tunnel);
        return;
    }
    set_watch(tunnel, &tunnel->client_watch, up, down, on_client);
    set_watch(tunnel, &tunnel->server_watch, down, up, on_server);
    if (tunnel->failed) {
        finish(tunnel);
        return;
    }
    if (r_up == 1 || r_down == 1) {
        sb_loop_queue(tunnel->loop, &tunnel->task); /* others get their turn */
    }
    sb_loop_timer(tunnel->loop, &tunnel->idle, LIMIT_IDLE_MS, on_idle, tunnel);
}

static void way_init(struct tunnel_way *way, struct stream *from, struct stream *to)
{
    *way = (struct tunnel_way){.from = from, .to = to, .pipe = {-1, -1}};
    sb_buf_init(&way->pending, LIMIT_HEAD_BYTES + LIMIT_BUFFER_BYTES);
}

void tunnel_start(struct tunnel *tunnel, struct sb_loop *loop, struct stream *client,
                  struct stream *server, tunnel_done_fn *done, void *arg)
{
    *tunnel =
        (struct tunnel){.loop = loop, .task = {.fn = run, .arg = tunnel}, .done = done, .arg = arg};
    way_init(&tunnel->up, client, server);
    way_init(&tunnel->down, server, client);
    /* The first move happens from the loop, so that the caller can push what it has read. */
    sb_loop_queue(loop, &tunnel->task);
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
    sb_loop_unqueue(tunnel->loop, &tunnel->task);
    give_pipe(&tunnel->up);
    give_pipe(&tunnel->down);
    sb_buf_done(&tunnel->up.pending);
    sb_buf_done(&tunnel->down.pending);
    *tunnel = (struct tunnel){0};
}
