/* SPDX-License-Identifier: Apache-2.0
 * Messages from the wire: put together, their descriptors made, delivered to the channel's socket
 * in order, and kept as text while it takes none (as JSON values they could be forty times as
 * large).
 *
 * What a guest may send is what sbx-init sends: no descriptor to the supervisor, and one connection
 * or terminal at a time to the command line. */
#include <errno.h>
#include <string.h>

#include "base/wipe.h"
#include "link/link_internal.h"

void letter_done(struct letter *letter)
{
    for (size_t i = 0; i < letter->nfds; i++) {
        sb_cleanup_fd(&letter->fds[i]);
    }
    sb_free_wiped(letter->text);
    *letter = (struct letter){0};
}

static size_t cost_of(const struct letter *letter)
{
    return letter->len + LINK_LETTER_COST;
}

static void remove_first(struct channel *c)
{
    struct letter *letter = TAILQ_FIRST(&c->letters);
    TAILQ_REMOVE(&c->letters, letter, next);
    c->letters_cost -= cost_of(letter);
    c->link->letters_cost -= cost_of(letter);
    letter_done(letter);
    free(letter);
}

void letters_drop(struct channel *c)
{
    while (!TAILQ_EMPTY(&c->letters)) {
        remove_first(c);
    }
}

/* ---- delivery ---- */

bool letters_wait(const struct channel *c)
{
    const struct stream *s;
    TAILQ_FOREACH(s, &c->members, in_group)
    {
        if (c->is_origin && s->in.behind) {
            return true;
        }
    }
    return false;
}

static int deliver(struct channel *c, const struct letter *letter)
{
    SB_CLEANUP(json)
    json_t *json =
        json_loadb(letter->text, letter->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    return sb_msg_send(c->fd, json, letter->fds, letter->nfds, NULL);
}

void letters_deliver(struct channel *c)
{
    while (!TAILQ_EMPTY(&c->letters) && !letters_wait(c)) {
        int r = deliver(c, TAILQ_FIRST(&c->letters));
        if (r == -EAGAIN) {
            break;
        }
        if (r < 0) {
            channel_close(c);
            return;
        }
        remove_first(c);
    }
    if (c->eof && TAILQ_EMPTY(&c->letters)) {
        channel_close(c);
        return;
    }
    channel_rewatch(c);
}

/* Puts a letter in its place.  A channel whose reader takes nothing is closed when too much waits.
 */
static void queue_letter(struct channel *c, struct letter *letter)
{
    struct link *link = c->link;
    size_t max = c->id ? LINK_CHANNEL_LETTERS_MAX : LINK_LETTERS_MAX;
    if (c->letters_cost + cost_of(letter) > max ||
        link->letters_cost + cost_of(letter) > LINK_LETTERS_MAX) {
        letter_done(letter);
        free(letter);
        if (c->id) {
            channel_close(c);
        } else {
            link_broken(link, "more messages than anybody takes");
        }
        return;
    }
    c->letters_cost += cost_of(letter);
    link->letters_cost += cost_of(letter);
    TAILQ_INSERT_TAIL(&c->letters, letter, next);
    struct stream *s;
    TAILQ_FOREACH(s, &c->members, in_group)
    {
        if (c->is_origin) {
            stream_mark_in(s);
        }
    }
    letters_deliver(c);
}

/* ---- descriptors ---- */

static enum frame_kind mirrored(enum frame_kind kind)
{
    return kind == FRAME_SOURCE ? FRAME_SINK : kind == FRAME_SINK ? FRAME_SOURCE : kind;
}

static int check_descriptors(struct channel *c, const struct frame *frame)
{
    if (c->link->side == LINK_GUEST || frame->count == 0) {
        return 0;
    }
    if (!c->id || frame->count > 1 || frame_descriptor(frame, 0).kind != FRAME_BOTH) {
        return link_broken(c->link, "a descriptor that no guest has to send");
    }
    return 0;
}

/* Makes the stand-ins: streams and channels of ours, and the ends to hand out.  Where none can be
 * made, or nobody takes them, they are closed from the start, and *ret_lost is set. */
static int take_descriptors(struct channel *c, const struct frame *frame, struct letter *letter,
                            bool *ret_lost)
{
    struct link *link = c->link;
    struct channel *group = c->id ? c : NULL;
    *ret_lost = c->fd < 0;
    for (size_t i = 0; i < frame->count; i++) {
        struct frame_descriptor descriptor = frame_descriptor(frame, i);
        struct slot *slot = link_their_slot(link, descriptor.id);
        if (!slot) {
            return link_broken(link, "a descriptor with an id that is in use, or not the sender's");
        }
        int ours = -1;
        int theirs = -1;
        *ret_lost |= !*ret_lost && descriptor_stand_in(descriptor.kind, &ours, &theirs) < 0;
        letter->fds[letter->nfds++] = theirs;
        if (descriptor.kind == FRAME_CHANNEL) {
            slot->channel = group = channel_new(link, descriptor.id, ours, false);
        } else {
            slot->stream = stream_new(link, descriptor.id, ours, mirrored(descriptor.kind), group);
        }
    }
    return 0;
}

/* ---- pieces ---- */

static int take_message(struct channel *c, const struct frame *frame)
{
    struct link *link = c->link;
    SB_CLEANUP(json)
    json_t *json = json_loadb(link->incoming.data, link->incoming.len,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!json_is_object(json)) {
        return link_broken(link, "a message that is not a JSON object");
    }
    int r = check_descriptors(c, frame);
    if (r < 0) {
        return r;
    }
    struct letter *letter = sb_xcalloc(1, sizeof(*letter));
    bool lost;
    r = take_descriptors(c, frame, letter, &lost);
    if (r < 0 || lost) {
        letter_done(letter);
        free(letter);
        if (r == 0 && c->fd >= 0) {
            channel_close(c); /* its reader would wait for what cannot come */
        }
        return r;
    }
    letter->len = link->incoming.len;
    letter->text = sb_buf_steal(&link->incoming);
    queue_letter(c, letter);
    return 0;
}

int letter_piece(struct link *link, const struct frame *frame)
{
    const struct slot *slot = link_find(link, frame->id);
    struct channel *c = slot ? slot->channel : NULL;
    if (!c || c->eof) {
        return link_broken(link, "a message for a channel that is not open");
    }
    if (link->has_incoming && link->incoming_id != frame->id) {
        return link_broken(link, "a message between the pieces of another");
    }
    size_t len;
    const char *text = frame_text(frame, &len);
    size_t max = !c->id && link->side == LINK_GUEST ? SB_MSG_LARGE_MAX : SB_MSG_MAX;
    if (len > max - link->incoming.len) {
        return link_broken(link, "a message of more than %zu bytes", max);
    }
    sb_buf_append(&link->incoming, text, len);
    link->has_incoming = frame->more;
    link->incoming_id = frame->id;
    if (frame->more) {
        return 0;
    }
    int r = take_message(c, frame);
    sb_buf_wipe(&link->incoming);
    return r;
}
