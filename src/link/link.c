/* SPDX-License-Identifier: Apache-2.0
 * The whole: ids, turns, control messages, the end. */
#include "link/link.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "link/link_internal.h"

enum {
    TURNS = 16, /* full buffers a round, then others of the loop have theirs */
    LAST_WORDS_MS = 1000,
};

/* An id: who sent the descriptor, a count of uses of the slot, the slot. */
enum { SLOT_BITS = 11, GENERATION_BITS = 20 };
_Static_assert(LINK_SLOTS == 1 << SLOT_BITS, "an id names every slot");

struct control {
    char *text;
    size_t len;
    TAILQ_ENTRY(control) next;
};

/* ---- ids ---- */

static struct slot *slot_of(struct link *link, uint32_t id)
{
    return &link->slots[id >> (SLOT_BITS + GENERATION_BITS)][id & (LINK_SLOTS - 1)];
}

struct slot *link_find(struct link *link, uint32_t id)
{
    struct slot *slot = slot_of(link, id);
    return slot->id == id && (slot->stream || slot->channel) ? slot : NULL;
}

/* `orders` has a slot of the host's. */
bool link_is_busy(const struct link *link)
{
    return link->nfree < (size_t)LINK_SLOTS - (link->side == LINK_HOST);
}

void link_reserve(struct link *link, size_t count)
{
    bool was_busy = link_is_busy(link);
    link->nfree -= count;
    if (!was_busy && link_is_busy(link) && link->events.busy) {
        link->events.busy(link->events.arg);
    }
}

struct slot *link_take_slot(struct link *link)
{
    struct slot *slots = link->slots[link->side];
    uint32_t i = link->next_slot;
    while (slots[i].stream || slots[i].channel) {
        i = (i + 1) % LINK_SLOTS;
    }
    struct slot *slot = &slots[i];
    slot->generation = (slot->generation + 1) % (1U << GENERATION_BITS);
    slot->id =
        (uint32_t)link->side << (SLOT_BITS + GENERATION_BITS) | slot->generation << SLOT_BITS | i;
    link->next_slot = (i + 1) % LINK_SLOTS;
    return slot;
}

struct slot *link_their_slot(struct link *link, uint32_t id)
{
    struct slot *slot = slot_of(link, id);
    bool theirs = id >> (SLOT_BITS + GENERATION_BITS) != (uint32_t)link->side;
    if (!theirs || slot->stream || slot->channel) {
        return NULL;
    }
    slot->id = id;
    return slot;
}

void link_give_slot(struct link *link, uint32_t id)
{
    struct slot *slot = slot_of(link, id);
    slot->stream = NULL;
    slot->channel = NULL;
    link->nfree += id >> (SLOT_BITS + GENERATION_BITS) == (uint32_t)link->side;
}

/* ---- the end ---- */

static void drop_control(struct link *link)
{
    struct control *control = TAILQ_FIRST(&link->controls);
    TAILQ_REMOVE(&link->controls, control, next);
    link->ncontrols--;
    free(control->text);
    free(control);
}

/* Every descriptor is closed: who waits on one sees it. */
static void tear_down(struct link *link)
{
    for (size_t i = 0; i < (size_t)2 * LINK_SLOTS; i++) {
        struct slot *slot = &link->slots[i / LINK_SLOTS][i % LINK_SLOTS];
        if (slot->stream) {
            stream_free(slot->stream);
        }
        if (slot->channel) {
            channel_free(slot->channel);
        }
        *slot = (struct slot){0};
    }
    while (!TAILQ_EMPTY(&link->controls)) {
        drop_control(link);
    }
    sb_loop_unqueue(link->loop, &link->turn);
    sb_loop_unqueue(link->loop, &link->ending);
    sb_loop_timer_stop(link->loop, &link->last_words);
    wire_close(link);
    sb_buf_wipe(&link->incoming);
}

static void on_ending(void *arg)
{
    struct link *link = arg;
    tear_down(link);
    /* The owner may free the link. */
    SB_CLEANUP(err) struct sb_err *why = link->why;
    link->why = NULL;
    sb_fail(&link->why, SB_EFAIL, "the link has ended");
    link->events.closed(link->events.arg, why);
}

int link_end(struct link *link, struct sb_err *why)
{
    if (link->why) {
        sb_err_free(why);
        return SB_EPROTO;
    }
    link->why = why;
    sb_loop_unqueue(link->loop, &link->turn);
    sb_loop_queue(link->loop, &link->ending);
    return SB_EPROTO;
}

int link_broken(struct link *link, const char *format, ...)
{
    char text[240];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    struct sb_err *why = NULL;
    sb_fail(&why, SB_EPROTO, "the %s broke the protocol of the link: %s",
            link->side == LINK_HOST ? "guest" : "host", text);
    return link_end(link, why);
}

static void end_by_orders(void *arg)
{
    struct link *link = arg;
    struct sb_err *why = NULL;
    sb_fail(&why, SB_EFAIL, "the link's socket for messages was closed");
    link_end(link, why);
}

void link_orders_ended(struct channel *orders)
{
    struct link *link = orders->link;
    if (orders->eof_due || orders->eof_sent) {
        return;
    }
    orders->listening = false;
    letters_drop(orders);
    sb_loop_unwatch(link->loop, orders->watch);
    orders->watch = 0;
    sb_cleanup_fd(&orders->fd);
    orders->fd = -1;
    orders->eof_due = true;
    channel_wake(orders);
    sb_loop_timer(link->loop, &link->last_words, LAST_WORDS_MS, end_by_orders, link);
}

/* ---- turns ---- */

static void send_control(struct link *link)
{
    const struct control *control = TAILQ_FIRST(&link->controls);
    wire_put(link,
             &(struct frame){.type = FRAME_CONTROL, .bytes = control->text, .len = control->len});
    drop_control(link);
}

/* What is due first, then a piece of a message and a read of a stream by turns.  Whether there was
 * anything to do. */
static bool do_one(struct link *link)
{
    struct stream *s = TAILQ_FIRST(&link->due_streams);
    struct channel *c = TAILQ_FIRST(&link->due_channels);
    if (s) {
        stream_tend(s);
        return true;
    }
    if (c) {
        channel_tend(c);
        return true;
    }
    if (!TAILQ_EMPTY(&link->controls)) {
        send_control(link);
        return true;
    }
    c = TAILQ_FIRST(&link->speaking);
    if (c) {
        channel_speak(c);
    }
    s = TAILQ_FIRST(&link->waiting);
    if (s && wire_has_room(link)) {
        stream_fill(s);
    }
    return c || s;
}

static void on_turn(void *arg)
{
    struct link *link = arg;
    bool busy = true;
    for (int i = 0; i < TURNS && busy && !link->why; i++) {
        while (busy && wire_has_room(link) && !link->why) {
            busy = do_one(link);
        }
        wire_flush(link);
        busy = busy && !link->wire.blocked;
    }
    if (busy && !link->why) {
        link_wake(link);
    }
    if (link->slots[LINK_HOST][0].channel->eof_sent && !link->wire.out_len) {
        end_by_orders(link);
    }
}

void link_wake(struct link *link)
{
    if (!link->why) {
        sb_loop_queue(link->loop, &link->turn);
    }
}

/* ---- frames ---- */

static int take_greeting(struct link *link, const struct frame *frame)
{
    bool other = frame->id == (link->side == LINK_HOST ? LINK_GUEST : LINK_HOST);
    if (link->wire.greeted || frame->type != FRAME_HELLO || !other ||
        memcmp(frame->bytes, frame_greeting, FRAME_GREETING) != 0) {
        return link_broken(link, "a greeting that is missing, repeated or of another version");
    }
    link->wire.greeted = true;
    return 0;
}

static int take_control(struct link *link, const struct frame *frame)
{
    SB_CLEANUP(json)
    json_t *json =
        json_loadb(frame->bytes, frame->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!json_is_object(json) || !link->events.control) {
        return link_broken(link, "a control message that nobody understands");
    }
    struct sb_err *err = NULL;
    if (link->events.control(link->events.arg, json, &err) < 0) {
        link_broken(link, "%s", err ? err->message : "a control message that was refused");
    }
    sb_err_free(err);
    return link->why ? SB_EPROTO : 0;
}

static int take_channel_end(struct channel *c)
{
    struct link *link = c->link;
    if (!c->id) {
        struct sb_err *why = NULL;
        sb_fail(&why, SB_EFAIL, "the other end of the link has ended");
        return link_end(link, why);
    }
    if (c->eof || (link->has_incoming && link->incoming_id == c->id)) {
        return link_broken(link, "a channel that ends twice, or within a message");
    }
    c->eof = true;
    channel_wake(c);
    return 0;
}

int link_frame(struct link *link, const struct frame *frame)
{
    if (!link->wire.greeted || frame->type == FRAME_HELLO) {
        return take_greeting(link, frame);
    }
    if (frame->type == FRAME_CONTROL) {
        return take_control(link, frame);
    }
    if (frame->type == FRAME_MESSAGE) {
        return letter_piece(link, frame);
    }
    const struct slot *slot = link_find(link, frame->id);
    if (slot && slot->stream) {
        return stream_frame(slot->stream, frame);
    }
    if (slot && frame->type == FRAME_EOF) {
        return take_channel_end(slot->channel);
    }
    return link_broken(link, slot ? "bytes for a channel" : "a frame for what is not open");
}

/* ---- the owner's ---- */

int link_new(struct sb_loop *loop, enum link_side side, int wire, int orders,
             const struct link_events *events, struct link **ret, struct sb_err **err)
{
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    struct link *link = sb_xcalloc(1, sizeof(*link));
    *link = (struct link){.loop = loop, .side = side, .events = *events, .wire.fd = wire};
    link->nfree = LINK_SLOTS - (side == LINK_HOST);
    link->extra = LINK_WINDOWS_EXTRA;
    link->turn = (struct sb_task){.fn = on_turn, .arg = link};
    link->ending = (struct sb_task){.fn = on_ending, .arg = link};
    TAILQ_INIT(&link->waiting);
    TAILQ_INIT(&link->due_streams);
    TAILQ_INIT(&link->speaking);
    TAILQ_INIT(&link->due_channels);
    TAILQ_INIT(&link->controls);
    sb_buf_init(&link->incoming, SB_MSG_LARGE_MAX);
    link->slots[LINK_HOST][0].channel = channel_new(link, 0, orders, true);
    int r = descriptor_kind(orders) == FRAME_CHANNEL
                ? 0
                : sb_fail(err, SB_EFAIL, "a link relays the messages of a SOCK_SEQPACKET socket");
    r = r < 0 ? r : wire_open(link, err);
    if (r < 0) {
        link_free(link);
        return r;
    }
    wire_put(link, &(struct frame){.type = FRAME_HELLO,
                                   .id = (uint32_t)side,
                                   .bytes = frame_greeting,
                                   .len = FRAME_GREETING});
    link_wake(link);
    *ret = link;
    return 0;
}

void link_free(struct link *link)
{
    if (!link) {
        return;
    }
    tear_down(link);
    sb_err_free(link->why);
    free(link);
}

int link_control(struct link *link, const json_t *message, struct sb_err **err)
{
    SB_CLEANUP(free) char *text = json_dumps(message, JSON_COMPACT);
    size_t len = text ? strlen(text) : SIZE_MAX;
    if (len > FRAME_CONTROL_MAX || link->ncontrols >= LINK_CONTROLS_MAX) {
        return sb_fail(err, SB_ELIMIT, "a control message is too large, or too many wait");
    }
    if (link->why) {
        return sb_fail(err, SB_EFAIL, "the link has ended");
    }
    struct control *control = sb_xcalloc(1, sizeof(*control));
    *control = (struct control){.text = sb_steal(&text), .len = len};
    TAILQ_INSERT_TAIL(&link->controls, control, next);
    link->ncontrols++;
    link_wake(link);
    return 0;
}

void link_raise_limits(void)
{
    enum { OTHERS = 128 };
    const rlim_t wanted = 2 * LINK_SLOTS + OTHERS;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted) {
        return;
    }
    /* The hard limit is root's to raise. */
    struct rlimit raised = {.rlim_cur = wanted,
                            .rlim_max = limit.rlim_max > wanted ? limit.rlim_max : wanted};
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
