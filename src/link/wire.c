/* SPDX-License-Identifier: Apache-2.0
 * The wire: a stream socket, or a virtio-serial port in a guest.
 *
 * The port answers a read with "end of file" while the host's side of it is not there, which at the
 * start only means that it comes later. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "link/link_internal.h"

enum {
    RETRY_MS = 10,
    PORT_READS = 64 /* a port gives a page at a time */
};

static void on_wire(void *arg, uint32_t events);

static void watch_wire(struct link *link)
{
    struct wire *wire = &link->wire;
    uint32_t events = EPOLLIN | (wire->blocked ? EPOLLOUT : 0);
    if (wire->watch) {
        sb_loop_modify(link->loop, wire->watch, events);
        return;
    }
    wire->watch = sb_loop_watch(link->loop, wire->fd, events, on_wire, link);
    if (!wire->watch) {
        link_broken(link, "the wire cannot be watched: %s", strerror(errno));
    }
}

/* ---- out ---- */

bool wire_has_room(const struct link *link)
{
    return link->wire.out_len < LINK_OUT_SOFT;
}

char *wire_payload(struct link *link, size_t len)
{
    struct wire *wire = &link->wire;
    size_t need = FRAME_HEADER + len;
    assert(need <= LINK_BUFFER - wire->out_len);
    if (wire->out_at + wire->out_len + need > LINK_BUFFER) {
        memmove(wire->out, wire->out + wire->out_at, wire->out_len);
        wire->out_at = 0;
    }
    return wire->out + wire->out_at + wire->out_len + FRAME_HEADER;
}

void wire_commit(struct link *link, const struct frame *frame)
{
    struct wire *wire = &link->wire;
    frame_write_header(wire->out + wire->out_at + wire->out_len, frame);
    wire->out_len += FRAME_HEADER + frame->len;
}

void wire_put(struct link *link, const struct frame *frame)
{
    char *to = wire_payload(link, frame->len);
    if (frame->len) {
        memcpy(to, frame->bytes, frame->len);
    }
    wire_commit(link, frame);
}

static ssize_t write_once(struct wire *wire)
{
    const char *from = wire->out + wire->out_at;
    ssize_t n;
    do {
        n = wire->is_socket ? send(wire->fd, from, wire->out_len, MSG_NOSIGNAL)
                            : write(wire->fd, from, wire->out_len);
    } while (n < 0 && errno == EINTR);
    return n;
}

void wire_flush(struct link *link)
{
    struct wire *wire = &link->wire;
    bool was_blocked = wire->blocked;
    while (wire->out_len && !wire->blocked && !link->why) {
        ssize_t n = write_once(wire);
        if (n < 0 && errno != EAGAIN) {
            struct sb_err *why = NULL;
            sb_fail_errno(&why, errno, "the other end of the link is gone");
            link_end(link, why);
            return;
        }
        size_t sent = n > 0 ? (size_t)n : 0;
        wire->out_len -= sent;
        wire->out_at = wire->out_len ? wire->out_at + sent : 0;
        wire->blocked = sent == 0;
    }
    if (wire->blocked != was_blocked && wire->watch) {
        watch_wire(link);
    }
}

/* ---- in ---- */

static void on_retry(void *arg)
{
    struct link *link = arg;
    watch_wire(link);
}

/* An end of file. */
static void wire_ended(struct link *link)
{
    struct wire *wire = &link->wire;
    if (!wire->is_socket && !wire->greeted) {
        sb_loop_unwatch(link->loop, wire->watch);
        wire->watch = 0;
        sb_loop_timer(link->loop, &wire->retry, RETRY_MS, on_retry, link);
        return;
    }
    struct sb_err *why = NULL;
    sb_fail(&why, SB_EFAIL, "the other end of the link is gone");
    link_end(link, why);
}

static int take_frames(struct link *link)
{
    struct wire *wire = &link->wire;
    size_t at = 0;
    while (!link->why) {
        struct frame frame;
        struct sb_err *err = NULL;
        ssize_t n = frame_read(wire->in + at, wire->in_len - at, &frame, &err);
        if (n < 0) {
            int r = link_broken(link, "%s", err->message);
            sb_err_free(err);
            return r;
        }
        if (n == 0) {
            break;
        }
        if (link_frame(link, &frame) < 0) {
            return SB_EPROTO;
        }
        at += (size_t)n;
    }
    wire->in_len -= at;
    if (at && wire->in_len) {
        memmove(wire->in, wire->in + at, wire->in_len);
    }
    return 0;
}

static void read_wire(struct link *link)
{
    struct wire *wire = &link->wire;
    int reads = wire->is_socket ? 1 : PORT_READS;
    ssize_t n = 1;
    int errnum = 0;
    for (int i = 0; i < reads && n > 0 && wire->in_len < LINK_BUFFER; i++) {
        n = read(wire->fd, wire->in + wire->in_len, LINK_BUFFER - wire->in_len);
        errnum = n < 0 ? errno : 0;
        wire->in_len += n > 0 ? (size_t)n : 0;
    }
    if (take_frames(link) < 0 || n > 0 || errnum == EAGAIN || errnum == EINTR || link->why) {
        return;
    }
    if (n == 0) {
        wire_ended(link);
        return;
    }
    struct sb_err *why = NULL;
    sb_fail_errno(&why, errnum, "the other end of the link is gone");
    link_end(link, why);
}

static void on_wire(void *arg, uint32_t events)
{
    struct link *link = arg;
    if (link->why) {
        return;
    }
    if (events & EPOLLOUT) {
        link->wire.blocked = false;
        watch_wire(link);
        link_wake(link);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        read_wire(link);
    }
}

int wire_open(struct link *link, struct sb_err **err)
{
    struct stat st;
    struct wire *wire = &link->wire;
    int fd = wire->fd;
    if (fstat(fd, &st) < 0 || descriptor_unblock(fd) < 0) {
        return sb_fail_errno(err, errno, "the wire of a link");
    }
    wire->is_socket = S_ISSOCK(st.st_mode);
    wire->in = sb_xcalloc(1, LINK_BUFFER);
    wire->out = sb_xcalloc(1, LINK_BUFFER);
    wire->watch = sb_loop_watch(link->loop, fd, EPOLLIN, on_wire, link);
    return wire->watch ? 0 : sb_fail_errno(err, errno, "watch the wire of a link");
}

void wire_close(struct link *link)
{
    struct wire *wire = &link->wire;
    sb_loop_unwatch(link->loop, wire->watch);
    sb_loop_timer_stop(link->loop, &wire->retry);
    wire->watch = 0;
    if (wire->fd >= 0) {
        close(sb_steal_fd(&wire->fd));
    }
    free(sb_steal(&wire->in));
    free(sb_steal(&wire->out));
}
