/* SPDX-License-Identifier: Apache-2.0
 * One stream: bytes between a descriptor here and the wire, each way by itself.
 *
 * A way has a sender and a receiver.  The sender says EOF once, its last frame; the receiver says
 * STOP once, its last frame: when it has delivered everything, or when its reader has gone.  A
 * sender that gets STOP says EOF.  A stream is over, and its id free, when both have been said of
 * both ways: then nothing about it can be on the wire any more.
 *
 * The sender is ahead of the receiver by at most the window, so the receiver can always put aside
 * what comes, and one reader that does not read keeps nobody else waiting. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "link/link_internal.h"

/* Nothing more is read from the descriptor. */
static bool out_over(const struct stream *s)
{
    return s->out.eof_due || s->out.eof_sent;
}

/* Nothing more is written to it. */
static bool in_over(const struct stream *s)
{
    return s->in.stop_due || s->in.stop_sent;
}

static void on_stream(void *arg, uint32_t events);

/* False when it cannot be watched (a limit of the kernel). */
static bool rewatch(struct stream *s)
{
    uint32_t events = (s->out.armed ? EPOLLIN : 0) | (s->in.queue.len ? EPOLLOUT : 0);
    /* Without events epoll still tells that the reader has gone.  When only the sending end could
     * have ended, it would tell so without pause. */
    bool wanted = s->fd >= 0 && s->pollable && (events || !in_over(s));
    if (!wanted) {
        sb_loop_unwatch(s->link->loop, s->watch);
        s->watch = 0;
    } else if (s->watch) {
        sb_loop_modify(s->link->loop, s->watch, events);
    } else {
        s->watch = sb_loop_watch(s->link->loop, s->fd, events, on_stream, s);
    }
    return !wanted || s->watch;
}

static void wait_for_turn(struct stream *s)
{
    if (!s->out.waiting) {
        s->out.waiting = true;
        TAILQ_INSERT_TAIL(&s->link->waiting, s, in_waiting);
        link_wake(s->link);
    }
}

static void leave_turns(struct stream *s)
{
    if (s->out.waiting) {
        s->out.waiting = false;
        TAILQ_REMOVE(&s->link->waiting, s, in_waiting);
    }
}

static void end_out(struct stream *s)
{
    leave_turns(s);
    s->out.armed = false;
    s->out.before = 0;
    s->out.eof_due = !s->out.eof_sent;
    if (s->group) {
        channel_wake(s->group);
    }
}

static void end_in(struct stream *s)
{
    ring_done(&s->in.queue);
    s->in.behind = 0;
    s->in.credit_due = false;
    s->in.stop_due = !s->in.stop_sent;
    if (s->group) {
        channel_wake(s->group);
    }
}

/* After every change. */
static void changed(struct stream *s)
{
    if (!rewatch(s)) {
        end_out(s);
        end_in(s);
    }
    if (out_over(s) && in_over(s) && s->fd >= 0) {
        sb_loop_unwatch(s->link->loop, s->watch);
        s->watch = 0;
        close(sb_steal_fd(&s->fd));
    }
    bool finished = s->out.eof_sent && s->out.stopped && s->in.eof && s->in.stop_sent;
    if (!s->due && (s->out.eof_due || s->in.stop_due || s->in.credit_due || finished)) {
        s->due = true;
        TAILQ_INSERT_TAIL(&s->link->due_streams, s, in_due);
        link_wake(s->link);
    }
}

/* ---- from the descriptor ---- */

/* So many bytes are no longer before the message of the channel. */
static void count_out(struct stream *s, size_t len)
{
    if (s->out.before) {
        s->out.before -= s->out.before < len ? s->out.before : len;
        if (!s->out.before && s->group) {
            channel_wake(s->group);
        }
    }
}

/* Sends one read; whether there may be more. */
static bool read_once(struct stream *s)
{
    size_t want = s->out.credit < FRAME_DATA_MAX ? s->out.credit : FRAME_DATA_MAX;
    char *to = wire_payload(s->link, want);
    ssize_t n;
    do {
        n = read(s->fd, to, want);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        count_out(s, s->out.before); /* somebody else has read it */
        return false;
    }
    if (n <= 0) {
        /* A terminal that nobody has open inside answers EIO: an end like any other. */
        end_out(s);
        return false;
    }
    struct frame frame = {.type = FRAME_DATA, .id = s->id, .len = (size_t)n};
    wire_commit(s->link, &frame);
    s->out.credit -= (size_t)n;
    count_out(s, (size_t)n);
    return (size_t)n == want;
}

void stream_fill(struct stream *s)
{
    leave_turns(s);
    if (out_over(s) || !s->out.credit) {
        return;
    }
    bool more = read_once(s);
    if (!out_over(s)) {
        s->out.armed = !more && s->pollable;
        if (s->out.credit && !s->out.armed) {
            wait_for_turn(s);
        }
    }
    changed(s);
}

/* At once when nobody else waits for the wire, which saves two calls of epoll a read. */
static void on_bytes(struct stream *s)
{
    if (!s->out.credit || !TAILQ_EMPTY(&s->link->waiting) || !wire_has_room(s->link)) {
        s->out.armed = false;
        if (s->out.credit) {
            wait_for_turn(s);
        }
        return;
    }
    read_once(s);
    if (!s->out.credit) {
        s->out.armed = false;
    }
    link_wake(s->link);
}

/* Nobody wants what the socket brings.  Its other end sees that when it writes, for which it waits
 * as long as there is no room: so what is there goes. */
static void shut_reading(const struct stream *s)
{
    enum { READS = 64 };
    char scrap[16 * 1024];
    shutdown(s->fd, SHUT_RD);
    for (int i = 0; i < READS && read(s->fd, scrap, sizeof(scrap)) > 0; i++) {
    }
}

static int take_stop(struct stream *s)
{
    if (s->out.stopped) {
        return link_broken(s->link, "a stream was stopped twice");
    }
    s->out.stopped = true;
    if (!out_over(s)) {
        if (s->is_socket) {
            shut_reading(s);
        }
        end_out(s);
    }
    changed(s);
    return 0;
}

static int take_credit(struct stream *s, size_t bytes)
{
    if (s->out.stopped || bytes > LINK_WINDOW_MAX - s->out.credit) {
        return link_broken(s->link, "a stream was given more credit than there is");
    }
    bool had_none = s->out.credit == 0;
    s->out.credit += bytes;
    if (had_none && bytes && !out_over(s)) {
        wait_for_turn(s);
    }
    return 0;
}

bool stream_mark_out(struct stream *s)
{
    int bytes = 0;
    if (!out_over(s) && ioctl(s->fd, FIONREAD, &bytes) == 0 && bytes > 0) {
        s->out.before = (size_t)bytes;
    }
    return s->out.before > 0;
}

/* ---- to the descriptor ---- */

/* All that came has been written: the reader sees the end, if the descriptor can show it. */
static void finish_in(struct stream *s)
{
    if (s->is_socket) {
        shutdown(s->fd, SHUT_WR);
    }
    end_in(s);
}

static void written(struct stream *s, size_t len)
{
    struct link *link = s->link;
    s->in.owed += len;
    if (s->in.behind) {
        s->in.behind -= s->in.behind < len ? s->in.behind : len;
        if (!s->in.behind && s->group) {
            channel_wake(s->group);
        }
    }
    if (s->in.owed < s->in.window / 4 || s->in.credit_due || s->in.eof) {
        return;
    }
    s->in.credit_due = true;
    if (!s->in.queue.len && s->in.window < LINK_WINDOW_MAX && link->extra >= s->in.window) {
        link->extra -= s->in.window;
        s->in.owed += s->in.window;
        s->in.window *= 2;
    }
}

/* Writes parts; -1 when the reader has gone, else how much was taken. */
static ssize_t write_parts(const struct stream *s, const struct iovec *parts, int count)
{
    ssize_t n;
    do {
        n = writev(s->fd, parts, count);
    } while (n < 0 && errno == EINTR);
    return n < 0 && errno == EAGAIN ? 0 : n;
}

static void write_queue(struct stream *s)
{
    struct iovec parts[2];
    int count = ring_peek(&s->in.queue, parts);
    ssize_t n = count ? write_parts(s, parts, count) : 0;
    if (n < 0) {
        end_in(s);
        return;
    }
    ring_take(&s->in.queue, (size_t)n);
    written(s, (size_t)n);
    if (!s->in.queue.len && s->in.eof) {
        finish_in(s);
    }
}

static int take_data(struct stream *s, const char *bytes, size_t len)
{
    if (s->in.eof) {
        return link_broken(s->link, "bytes came behind the end of their stream");
    }
    if (len > s->in.allowed) {
        return link_broken(s->link, "a stream brought more bytes than it was allowed");
    }
    s->in.allowed -= len;
    if (in_over(s)) {
        return 0; /* on their way while we said STOP */
    }
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    ssize_t n = s->in.queue.len ? 0 : write_parts(s, &part, 1);
    if (n < 0) {
        end_in(s);
    } else {
        if ((size_t)n < len) {
            ring_put(&s->in.queue, bytes + n, len - (size_t)n, s->in.window);
        }
        written(s, (size_t)n);
    }
    changed(s);
    return 0;
}

static int take_eof(struct stream *s)
{
    if (s->in.eof) {
        return link_broken(s->link, "a stream ended twice");
    }
    s->in.eof = true;
    s->in.credit_due = false;
    if (!in_over(s) && !s->in.queue.len) {
        finish_in(s);
    }
    changed(s);
    return 0;
}

void stream_mark_in(struct stream *s)
{
    s->in.behind = s->in.queue.len;
}

/* ---- both ---- */

static void on_stream(void *arg, uint32_t events)
{
    struct stream *s = arg;
    if (s->link->why) {
        return;
    }
    if (!in_over(s) && (events & (EPOLLERR | EPOLLHUP))) {
        end_in(s);
    } else if (events & EPOLLOUT) {
        write_queue(s);
    }
    if (s->out.armed && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
        on_bytes(s);
    }
    changed(s);
}

int stream_frame(struct stream *s, const struct frame *frame)
{
    switch (frame->type) {
    case FRAME_DATA:
        return take_data(s, frame->bytes, frame->len);
    case FRAME_CREDIT:
        return take_credit(s, frame_credit(frame));
    case FRAME_EOF:
        return take_eof(s);
    case FRAME_STOP:
        return take_stop(s);
    default:
        return link_broken(s->link, "a message came on a stream");
    }
}

void stream_tend(struct stream *s)
{
    struct link *link = s->link;
    struct frame frame = {.id = s->id};
    TAILQ_REMOVE(&link->due_streams, s, in_due);
    s->due = false;
    if (s->in.credit_due && !in_over(s)) {
        char bytes[4];
        frame_write_credit(bytes, (uint32_t)s->in.owed);
        wire_put(link,
                 &(struct frame){
                     .type = FRAME_CREDIT, .id = s->id, .bytes = bytes, .len = sizeof(bytes)});
        s->in.allowed += s->in.owed;
        s->in.owed = 0;
    }
    s->in.credit_due = false;
    if (s->out.eof_due) {
        frame.type = FRAME_EOF;
        wire_put(link, &frame);
        s->out.eof_due = false;
        s->out.eof_sent = true;
    }
    if (s->in.stop_due) {
        frame.type = FRAME_STOP;
        wire_put(link, &frame);
        s->in.stop_due = false;
        s->in.stop_sent = true;
    }
    if (s->out.eof_sent && s->out.stopped && s->in.eof && s->in.stop_sent) {
        link_give_slot(link, s->id);
        stream_free(s);
    }
}

static void look_at(struct stream *s)
{
    struct stat st;
    if (s->fd < 0 || fstat(s->fd, &st) < 0) {
        return;
    }
    s->is_socket = S_ISSOCK(st.st_mode);
    s->pollable = s->is_socket || S_ISFIFO(st.st_mode) || isatty(s->fd);
    descriptor_unblock(s->fd);
}

struct stream *stream_new(struct link *link, uint32_t id, int fd, enum frame_kind kind,
                          struct channel *group)
{
    struct stream *s = sb_xcalloc(1, sizeof(*s));
    *s = (struct stream){.link = link, .id = id, .fd = fd, .group = group};
    bool reads = kind == FRAME_SOURCE || kind == FRAME_BOTH;
    bool writes = kind == FRAME_SINK || kind == FRAME_BOTH;
    look_at(s);
    s->out.eof_sent = s->out.stopped = !reads;
    s->in.eof = s->in.stop_sent = !writes;
    s->out.credit = reads ? LINK_WINDOW : 0;
    s->in.window = s->in.allowed = writes ? LINK_WINDOW : 0;
    if (group) {
        TAILQ_INSERT_TAIL(&group->members, s, in_group);
    }
    if (fd < 0) {
        s->out.eof_due = reads;
        s->in.stop_due = writes;
    } else if (reads) {
        s->out.armed = s->pollable;
        if (!s->pollable) {
            wait_for_turn(s);
        }
    }
    changed(s);
    return s;
}

void stream_free(struct stream *s)
{
    struct link *link = s->link;
    leave_turns(s);
    if (s->due) {
        TAILQ_REMOVE(&link->due_streams, s, in_due);
    }
    if (s->group) {
        TAILQ_REMOVE(&s->group->members, s, in_group);
    }
    sb_loop_unwatch(link->loop, s->watch);
    sb_cleanup_fd(&s->fd);
    ring_done(&s->in.queue);
    if (s->in.window > LINK_WINDOW) {
        link->extra += s->in.window - LINK_WINDOW;
    }
    free(s);
}
