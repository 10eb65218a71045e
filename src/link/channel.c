/* SPDX-License-Identifier: Apache-2.0
 * One channel: messages from a socket here to the wire, and its end.  letter.c is the other way.
 *
 * One message at a time is on the wire, in pieces between which bytes of streams may go but no
 * other message; so the receiver holds at most one that is not whole.
 *
 * What sbx-init says on a session's channel comes after what the session's command wrote before:
 * an "exit" that overtook the output would have the command line leave without it.  So a message
 * from the side that was given the channel (there, `held`) waits until the bytes that stood in the
 * descriptors at that moment are on the wire, and on the side that sent the channel away (letter.c)
 * until they have been delivered.  The other way nothing waits: a signal must not stand behind
 * input that nobody reads. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "link/link_internal.h"

_Static_assert((int)SB_MSG_FDS == (int)FRAME_DESCRIPTORS_MAX,
               "a message's descriptors fit into a frame");

static void on_channel(void *arg, uint32_t events);

void channel_rewatch(struct channel *c)
{
    struct sb_loop *loop = c->link->loop;
    bool delivers = !TAILQ_EMPTY(&c->letters) && !letters_wait(c);
    uint32_t events = (c->listening ? EPOLLIN : 0) | (delivers ? EPOLLOUT : 0);
    if (c->fd < 0 || !events) {
        sb_loop_unwatch(loop, c->watch);
        c->watch = 0;
    } else if (c->watch) {
        sb_loop_modify(loop, c->watch, events);
    } else {
        c->watch = sb_loop_watch(loop, c->fd, events, on_channel, c);
        if (!c->watch) {
            channel_close(c);
        }
    }
}

void channel_wake(struct channel *c)
{
    if (!c->due) {
        c->due = true;
        TAILQ_INSERT_TAIL(&c->link->due_channels, c, in_due);
        link_wake(c->link);
    }
}

static void begin_speaking(struct channel *c)
{
    if (!c->speaking) {
        c->speaking = true;
        TAILQ_INSERT_TAIL(&c->link->speaking, c, in_speaking);
        link_wake(c->link);
    }
}

static void end_speaking(struct channel *c)
{
    if (c->speaking) {
        c->speaking = false;
        TAILQ_REMOVE(&c->link->speaking, c, in_speaking);
    }
}

static void unload(struct channel *c)
{
    letter_done(&c->letter);
    c->link->nfree += c->reserved;
    c->reserved = 0;
    c->loaded = c->held = false;
    c->sent = 0;
}

void channel_close(struct channel *c)
{
    if (!c->id) {
        link_orders_ended(c);
        return;
    }
    sb_loop_unwatch(c->link->loop, c->watch);
    c->watch = 0;
    if (c->fd >= 0) {
        close(sb_steal_fd(&c->fd));
    }
    c->listening = false;
    letters_drop(c);
    /* A message that is partly on the wire must be finished, or no other could follow. */
    if (!c->sent) {
        end_speaking(c);
        unload(c);
    }
    c->eof_due = !c->eof_sent;
    channel_wake(c);
}

/* ---- a message from the socket ---- */

/* The positions of an `exec` order decide what its descriptors are for: each may be a terminal,
 * which can do both. */
static int kind_at(const struct sb_msg *msg, size_t i, bool is_exec)
{
    int kind = descriptor_kind(msg->fds[i]);
    if (is_exec && i > 0 && kind > 0 && kind != FRAME_CHANNEL) {
        return i == 1 ? FRAME_SOURCE : FRAME_SINK;
    }
    return kind;
}

static bool find_kinds(struct channel *c, const struct sb_msg *msg)
{
    const char *op = sb_json_str(msg->json, "op");
    bool is_exec = !c->id && op && strcmp(op, "exec") == 0;
    for (size_t i = 0; i < msg->nfds; i++) {
        int kind = kind_at(msg, i, is_exec);
        if (kind < 0) {
            return false;
        }
        c->kinds[i] = (enum frame_kind)kind;
    }
    return msg->nfds <= c->link->nfree;
}

/* Takes the next message.  1 when there is one to be sent, 0 when there is none; negative at the
 * end of the channel.  A message that cannot be carried is dropped: who waits on a channel or a
 * pipe that was in it sees that end. */
static int load(struct channel *c)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    bool large = !c->id && c->link->side == LINK_HOST;
    int r = large ? sb_msg_recv_large(c->fd, &msg, NULL) : sb_msg_recv(c->fd, &msg, NULL);
    if (r <= 0) {
        return r == -EAGAIN ? 0 : -EPIPE;
    }
    char *text = json_dumps(msg.json, JSON_COMPACT);
    size_t len = text ? strlen(text) : 0;
    if (!len || len > (large ? SB_MSG_LARGE_MAX : SB_MSG_MAX) || !find_kinds(c, &msg)) {
        free(text);
        return 0;
    }
    c->letter = (struct letter){.text = text, .len = len, .nfds = msg.nfds};
    for (size_t i = 0; i < msg.nfds; i++) {
        c->letter.fds[i] = sb_msg_steal_fd(&msg, i);
    }
    /* It may wait, and others may send descriptors meanwhile. */
    c->reserved = msg.nfds;
    link_reserve(c->link, c->reserved);
    c->loaded = true;
    return 1;
}

static bool must_wait(const struct channel *c)
{
    struct stream *s;
    bool waits = false;
    TAILQ_FOREACH(s, &c->members, in_group)
    {
        waits |= !c->is_origin && stream_mark_out(s);
    }
    return waits;
}

static bool still_waits(const struct channel *c)
{
    const struct stream *s;
    TAILQ_FOREACH(s, &c->members, in_group)
    {
        if (s->out.before) {
            return true;
        }
    }
    return false;
}

/* The descriptors become streams and channels of ours. */
static void announce(struct channel *c, char *list)
{
    struct link *link = c->link;
    struct channel *group = c->id ? c : NULL;
    c->reserved = 0;
    for (size_t i = 0; i < c->letter.nfds; i++) {
        struct slot *slot = link_take_slot(link);
        struct frame_descriptor descriptor = {.kind = c->kinds[i], .id = slot->id};
        int fd = sb_steal_fd(&c->letter.fds[i]);
        frame_write_descriptor(list + i * FRAME_DESCRIPTOR, &descriptor);
        if (descriptor.kind == FRAME_CHANNEL) {
            slot->channel = group = channel_new(link, slot->id, fd, true);
            continue;
        }
        slot->stream = stream_new(link, slot->id, fd, descriptor.kind, group);
    }
}

static void send_piece(struct channel *c)
{
    size_t left = c->letter.len - c->sent;
    size_t len = left < FRAME_PIECE_MAX ? left : FRAME_PIECE_MAX;
    bool more = len < left;
    struct frame frame = {.type = FRAME_MESSAGE, .id = c->id, .more = more};
    frame.count = more ? 0 : c->letter.nfds;
    size_t list = frame.count * FRAME_DESCRIPTOR;
    frame.len = list + len;
    char *to = wire_payload(c->link, frame.len);
    memcpy(to + list, c->letter.text + c->sent, len);
    if (list) {
        announce(c, to);
    }
    wire_commit(c->link, &frame);
    c->sent += len;
}

void channel_speak(struct channel *c)
{
    int r = c->loaded ? 1 : load(c);
    if (r < 0) {
        end_speaking(c);
        channel_close(c);
        return;
    }
    if (r > 0 && !c->sent && !c->held && must_wait(c)) {
        c->held = true;
        end_speaking(c);
        return;
    }
    if (r > 0) {
        send_piece(c);
        if (c->sent < c->letter.len) {
            return;
        }
        unload(c);
    }
    end_speaking(c);
    if (c->fd < 0) {
        channel_wake(c);
        return;
    }
    c->listening = true;
    channel_rewatch(c);
}

/* ---- its turns ---- */

static void on_channel(void *arg, uint32_t events)
{
    struct channel *c = arg;
    if (c->link->why) {
        return;
    }
    if (!TAILQ_EMPTY(&c->letters) && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        letters_deliver(c);
    }
    if (c->listening && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
        c->listening = false;
        begin_speaking(c);
        channel_rewatch(c);
    }
}

void channel_tend(struct channel *c)
{
    struct link *link = c->link;
    TAILQ_REMOVE(&link->due_channels, c, in_due);
    c->due = false;
    if (c->held && !still_waits(c)) {
        /* `held` stays set: what was written since then does not go before this message. */
        begin_speaking(c);
    }
    if (c->fd >= 0) {
        letters_deliver(c);
    }
    if (c->eof_due && !c->loaded) {
        wire_put(link, &(struct frame){.type = FRAME_EOF, .id = c->id});
        c->eof_due = false;
        c->eof_sent = true;
    }
    if (c->eof_sent && c->eof) {
        link_give_slot(link, c->id);
        channel_free(c);
    }
}

struct channel *channel_new(struct link *link, uint32_t id, int fd, bool is_origin)
{
    struct channel *c = sb_xcalloc(1, sizeof(*c));
    *c = (struct channel){.link = link, .id = id, .fd = fd, .is_origin = is_origin};
    TAILQ_INIT(&c->letters);
    TAILQ_INIT(&c->members);
    if (fd < 0 || descriptor_unblock(fd) < 0) {
        channel_close(c);
        return c;
    }
    c->listening = true;
    channel_rewatch(c);
    return c;
}

void channel_free(struct channel *c)
{
    struct stream *s;
    while ((s = TAILQ_FIRST(&c->members))) {
        TAILQ_REMOVE(&c->members, s, in_group);
        s->group = NULL;
    }
    end_speaking(c);
    if (c->due) {
        TAILQ_REMOVE(&c->link->due_channels, c, in_due);
    }
    unload(c);
    letters_drop(c);
    sb_loop_unwatch(c->link->loop, c->watch);
    sb_cleanup_fd(&c->fd);
    free(c);
}
