/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "proxy/bounds.h"

static void on_event(void *arg, uint32_t events)
{
    struct wire *wire = arg;
    wire->readable |= (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
    wire->hung_up |= (events & (EPOLLHUP | EPOLLERR)) != 0;
    wire->blocked &= !(events & EPOLLOUT);
    wire_wake(wire);
}

static void on_timer(void *arg)
{
    struct wire *wire = arg;
    uint64_t now_ms = sb_loop_now_ms(wire->loop);
    if (now_ms < wire->deadline_ms) {
        sb_loop_timer(wire->loop, &wire->timer, wire->deadline_ms - now_ms, on_timer, wire);
    } else {
        wire->late(wire->owner);
    }
}

void wire_open(struct wire *wire, struct sb_loop *loop, int fd, sb_timer_fn *run, sb_timer_fn *late,
               void *owner)
{
    *wire = (struct wire){
        .loop = loop, .late = late, .owner = owner, .task = {.fn = run, .arg = owner}};
    stream_init(&wire->stream, fd);
    sb_buf_init(&wire->in, LIMIT_HEAD_BYTES + LIMIT_BUFFER_BYTES);
    sb_buf_init(&wire->out, LIMIT_OUT_BYTES);
    wire->readable = true;
}

static void detach(struct wire *wire)
{
    sb_loop_unwatch(wire->loop, wire->watch);
    sb_loop_unqueue(wire->loop, &wire->task);
    sb_loop_timer_stop(wire->loop, &wire->timer);
    wire->watch = 0;
    sb_buf_wipe(&wire->in);
    sb_buf_wipe(&wire->out);
}

void wire_close(struct wire *wire)
{
    if (wire->loop) {
        detach(wire);
        stream_close(&wire->stream);
        wire->loop = NULL;
    }
}

struct stream wire_release(struct wire *wire)
{
    struct stream stream = wire->stream;
    detach(wire);
    stream_init(&wire->stream, -1);
    return stream;
}

void wire_wake(struct wire *wire)
{
    sb_loop_queue(wire->loop, &wire->task);
}

/* A deadline that moves on, as it does with every request, costs no work on the timer. */
void wire_deadline(struct wire *wire, uint64_t after_ms)
{
    wire->deadline_ms = sb_loop_now_ms(wire->loop) + after_ms;
    if (!wire->timer.place || wire->timer.due_ms > wire->deadline_ms) {
        sb_loop_timer(wire->loop, &wire->timer, after_ms, on_timer, wire);
    }
}

int wire_handshake(struct wire *wire)
{
    int r = stream_handshake(&wire->stream);
    wire->readable |= r == 1; /* it may have read on */
    return r;
}

ssize_t wire_read(struct wire *wire, struct sb_buf *to, size_t max)
{
    if (wire->ended) {
        return 0;
    }
    if (!wire->readable) {
        return -EAGAIN;
    }
    char *room = sb_buf_room(to, max);
    if (!room) {
        return -ENOBUFS;
    }
    ssize_t n = stream_read(&wire->stream, room, max);
    if (n > 0) {
        sb_buf_add(to, (size_t)n);
        wire->moved += (size_t)n;
    }
    wire->ended = n == 0;
    /* A short read has emptied the socket: the loop says when there is more. */
    wire->readable = n >= 0 && ((size_t)n == max || stream_pending(&wire->stream));
    return n;
}

/* A large buffer is not kept for the next use. */
static bool is_large(const struct sb_buf *buf)
{
    return buf->skip + buf->cap > LIMIT_KEPT_BYTES;
}

static void shrink(struct sb_buf *buf)
{
    if (!buf->len && is_large(buf)) {
        sb_buf_wipe(buf);
    }
}

int wire_send(struct wire *wire, struct sb_buf *buf)
{
    struct stream *stream = &wire->stream;
    bool nothing = !buf->len && !stream_holds(stream);
    if (nothing || wire->blocked) {
        return nothing ? 0 : -EAGAIN;
    }
    size_t sent = 0;
    ssize_t n = buf->len ? 0 : stream_flush(stream);
    while (n >= 0 && sent < buf->len && (!sent || !stream_holds(stream))) {
        n = stream_write(stream, buf->data + sent, buf->len - sent);
        n = n == 0 ? -EPIPE : n;
        sent += n > 0 ? (size_t)n : 0;
    }
    bool wiped = sent == buf->len && is_large(buf); /* by shrink() */
    if (wire->secret && buf == &wire->out && !wiped) {
        explicit_bzero(buf->data, sent); /* what is left moves over it */
    }
    sb_buf_consume(buf, sent);
    wire->moved += sent;
    if (n < 0 && n != -EAGAIN) {
        return (int)n;
    }
    wire->blocked = n == -EAGAIN || stream_holds(stream);
    return wire->blocked ? -EAGAIN : 0;
}

bool wire_is_sent(const struct wire *wire)
{
    return !wire->out.len && !stream_holds(&wire->stream);
}

int wire_flush(struct wire *wire)
{
    int r = wire_send(wire, &wire->out);
    shrink(&wire->out);
    return r;
}

void wire_rest(struct wire *wire)
{
    shrink(&wire->in);
}

void wire_wait(struct wire *wire, bool reading)
{
    if (stream_holds(&wire->stream) && !wire->blocked) { /* nothing came that it could leave with */
        wire_flush(wire);
    }
    /* An interest that has not been met yet costs nothing to keep. */
    bool keep = wire->watch && !wire->readable && !wire->ended;
    uint32_t events = stream_events(&wire->stream, reading || keep, wire->blocked);
    if (!events && wire->hung_up) { /* which the kernel would report for ever */
        sb_loop_unwatch(wire->loop, wire->watch);
        wire->watch = 0;
        return;
    }
    if (wire->watch) {
        sb_loop_modify(wire->loop, wire->watch, events);
        return;
    }
    wire->watch = sb_loop_watch(wire->loop, wire->stream.fd, events, on_event, wire);
    if (!wire->watch) { /* no memory for it: the connection cannot go on */
        wire->hung_up = true;
        wire_wake(wire);
    }
}
