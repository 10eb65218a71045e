/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/back1.h"

#include <errno.h>
#include <string.h>

#include "proxy/bounds.h"
#include "proxy/link.h"
#include "proxy/via_codec.h"
#include "proxy/websocket.h"

enum { HTTP_PORT = 80, AUTHORITY_MORE = 16 /* brackets and a port */ };

static void wake(struct exchange *x)
{
    wire_wake(&x->link->wire);
}

/* Nothing of this connection can be used again: the rest of the answer is on its way. */
static void cancel(struct exchange *x)
{
    link_close(x->link);
}

static const struct back_ops ops = {.wake = wake, .cancel = cancel};

/* A websocket that was asked for by HTTP/2 (RFC 8441) is asked for as HTTP/1.1 does it. */
static void write_websocket(struct link *link, const struct http_head *head)
{
    struct http_head upgrade = *head;
    struct http_field fields[HTTP_FIELDS_MAX + HTTP_SET_MAX + 1];
    websocket_key(link->h1.websocket_key);
    memcpy(fields, head->fields, head->nfields * sizeof(*fields));
    fields[upgrade.nfields++] = (struct http_field){.name = "Sec-WebSocket-Key",
                                                    .name_len = 17,
                                                    .value = link->h1.websocket_key,
                                                    .value_len = 24};
    upgrade.fields = fields;
    upgrade.method = "GET";
    upgrade.method_len = 3;
    upgrade.body = HTTP_BODY_NONE;
    http1_write_request(&link->wire.out, &upgrade);
}

static void write_request(struct link *link, const struct http_head *head)
{
    if (!link->taker) {
        http1_write_request(&link->wire.out, head);
        return;
    }
    SB_CLEANUP(buf) struct sb_buf authority;
    sb_buf_init(&authority, HOST_MAX + AUTHORITY_MORE);
    via_write_authority(&authority, &link->origin->host, link->origin->port, HTTP_PORT);
    http1_write_proxy_request(&link->wire.out, head, authority.data, link->taker->authorization);
}

void back1_serve(struct link *link, struct exchange *x)
{
    const struct http_head *head = &x->request.head;
    link->h1 = (struct back1){0};
    x->back = &ops;
    link->wire.secret = true;
    if (http_method_is(head, "CONNECT")) {
        write_websocket(link, head);
        link->h1.request_done = true;
    } else {
        write_request(link, head);
        link->h1.request_done = head->body == HTTP_BODY_NONE;
    }
    wire_wake(&link->wire);
}

/* ---- Request ---- */

/* The origin does not read on: its answer may say why. */
static int lose_upload(struct link *link)
{
    link->h1.upload_lost = true;
    sb_buf_clear(&link->wire.out);
    return 0;
}

static bool is_chunked(const struct exchange *x)
{
    return !x->switched && x->request.head.body == HTTP_BODY_STREAM;
}

/* The request's body as it goes into wire.out; what is not chunked and large goes by itself. */
static void encode_up(struct link *link, struct exchange *x)
{
    struct sb_buf *out = &link->wire.out;
    struct flow *up = &x->up;
    bool chunked = is_chunked(x);
    size_t n = up->data.len < LIMIT_BUFFER_BYTES ? up->data.len : LIMIT_BUFFER_BYTES;
    if (n && chunked) {
        chunked_write(out, up->data.data, n);
        sb_buf_consume(&up->data, n);
    } else if (n && out->len && out->len + n <= LIMIT_READ_BYTES) {
        sb_buf_append(out, up->data.data, n);
        sb_buf_consume(&up->data, n);
    }
    if (chunked && up->ended && !up->data.len) {
        chunked_write_end(out, up->trailers.data, up->trailers.len);
        link->h1.request_done = true;
    }
}

static void end_up(struct link *link, const struct exchange *x)
{
    link->h1.request_done = true;
    if (x->switched) {
        link->h1.upload_shut = true;
        stream_shutdown_write(&link->wire.stream);
    }
}

/* 1 moved, 0 must wait. */
static int send_up(struct link *link, struct exchange *x)
{
    struct wire *wire = &link->wire;
    struct flow *up = &x->up;
    if (link->h1.upload_lost || wire->blocked) {
        return 0;
    }
    bool open = x->switched ? !link->h1.upload_shut : !link->h1.request_done;
    size_t before = open ? up->data.len : 0;
    if (open) {
        encode_up(link, x);
    }
    int r = wire_flush(wire);
    if (r == 0 && open && !is_chunked(x)) {
        r = wire_send(wire, &up->data);
    }
    size_t moved = open ? before - up->data.len : 0;
    bool all = open && up->ended && !up->data.len; /* a filter may give more when this is taken */
    if (flow_took(up, moved)) {
        exchange_wake_front(x);
    }
    if (r < 0) {
        return r == -EAGAIN ? 0 : lose_upload(link);
    }
    if (all) {
        end_up(link, x);
        return 1;
    }
    return moved > 0;
}

/* ---- Answer ---- */

/* 101 is taken only when it was asked for; a websocket must prove that it understood. */
static const char *check_switch(const struct link *link, const struct exchange *x,
                                const struct http_head *head)
{
    if (!x->request.head.protocol_len || !link->h1.request_done) {
        return "the origin switched protocols without being asked";
    }
    const struct http_field *accept = http_find(head, "sec-websocket-accept");
    if (link->h1.websocket_key[0] &&
        (!accept || !websocket_accepts(link->h1.websocket_key, accept->value, accept->value_len))) {
        return "the origin's websocket handshake is wrong";
    }
    return NULL;
}

static int bad_answer(struct link *link, const char *why)
{
    link->used = false; /* it began to answer: the request is not sent again */
    link_fail(link, why);
    return 0;
}

static int take_head(struct link *link, struct exchange *x)
{
    static struct http1_head head; /* large, and used for one call only */
    struct back1 *h1 = &link->h1;
    struct sb_buf *in = &link->wire.in;
    const char *why = NULL;
    bool was_head = http_method_is(&x->request.head, "HEAD");
    int r = in->len ? http1_parse_response(in->data, in->len, was_head, &head, &why) : 0;
    if (r == 0) {
        ssize_t n = wire_read(&link->wire, in, LIMIT_HEAD_READ_BYTES);
        if (n == -EAGAIN || n > 0) {
            return n > 0;
        }
        if (in->len) {
            return bad_answer(link, "the connection ended within the answer's head");
        }
        link_fail(link, "the connection ended before the answer");
        return 0;
    }
    if (r > 0 && head.http.status == 101) {
        why = check_switch(link, x, &head.http);
    }
    if (why) {
        return bad_answer(link, why);
    }
    if (link->taker && head.http.status == 407) {
        link_fail_password(link);
        return 0;
    }
    h1->answer_seen = head.http.status >= 200 || head.http.status == 101;
    h1->body = head.http.status == 101 ? HTTP1_BODY_UNTIL_CLOSE : head.body;
    h1->left = head.http.body_length;
    h1->keep = head.keep_alive && head.http.status != 101;
    why = exchange_answer(x, &head.http);
    if (why) {
        return bad_answer(link, why);
    }
    sb_buf_consume(in, head.head_len);
    return 1;
}

static void finish(struct link *link, struct exchange *x)
{
    struct back1 *h1 = &link->h1;
    bool keep = h1->keep && h1->request_done && wire_is_sent(&link->wire) && !link->wire.in.len &&
                !link->wire.ended;
    flow_end(&x->down);
    if (!keep) {
        link_close(link);
    }
    exchange_detach(x);
    exchange_wake_front(x);
    link_free_again(link);
}

static int take_chunks(struct link *link, struct exchange *x, size_t room)
{
    struct sb_buf *in = &link->wire.in;
    size_t used;
    int r = chunked_read(&link->h1.chunked, in->data, in->len < room ? in->len : room, &used,
                         flow_input(&x->down), &x->down.trailers);
    sb_buf_consume(in, used);
    flow_moved(&x->down);
    if (r < 0 || x->down.trailers.overflow) {
        return bad_answer(link, "the answer's chunks are malformed");
    }
    exchange_wake_front(x);
    if (r == 1) {
        finish(link, x);
    }
    return 1;
}

/* Bytes that came with the head, or before. */
static void take_read(struct link *link, struct exchange *x, size_t room)
{
    struct sb_buf *in = &link->wire.in;
    size_t n = in->len < room ? in->len : room;
    sb_buf_append(flow_input(&x->down), in->data, n);
    sb_buf_consume(in, n);
    flow_moved(&x->down);
    link->h1.left -= link->h1.body == HTTP1_BODY_LENGTH ? n : 0;
    exchange_wake_front(x);
}

static int take_body(struct link *link, struct exchange *x)
{
    struct back1 *h1 = &link->h1;
    struct wire *wire = &link->wire;
    if (h1->body == HTTP1_BODY_NONE || (h1->body == HTTP1_BODY_LENGTH && !h1->left)) {
        finish(link, x);
        return 1;
    }
    size_t room = flow_room(&x->down);
    if (room == 0) {
        return 0;
    }
    if (h1->body == HTTP1_BODY_LENGTH && h1->left < room) {
        room = (size_t)h1->left;
    }
    if (wire->in.len && h1->body == HTTP1_BODY_CHUNKED) {
        return take_chunks(link, x, room);
    }
    if (wire->in.len) {
        take_read(link, x, room);
        return 1;
    }
    bool chunked = h1->body == HTTP1_BODY_CHUNKED;
    ssize_t n = wire_read(wire, chunked ? &wire->in : flow_input(&x->down), room);
    if (n == -EAGAIN) {
        return 0;
    }
    if (n <= 0) {
        if (n == 0 && h1->body == HTTP1_BODY_UNTIL_CLOSE) {
            finish(link, x);
        } else {
            bad_answer(link, "the connection ended within the answer");
        }
        return 1;
    }
    if (!chunked) {
        h1->left -= h1->body == HTTP1_BODY_LENGTH ? (uint64_t)n : 0;
        flow_moved(&x->down);
        exchange_wake_front(x);
    }
    return 1;
}

void back1_run(struct link *link)
{
    struct wire *wire = &link->wire;
    for (int round = 0; round < LIMIT_TURN_ROUNDS; round++) {
        struct exchange *x = link->served;
        if (!x) {
            break;
        }
        int up = send_up(link, x);
        int down = link->h1.answer_seen ? take_body(link, x) : take_head(link, x);
        if (link->state != LINK_HTTP1) {
            return;
        }
        if (!up && !down) {
            wire_wait(wire, !link->h1.answer_seen || flow_room(&x->down) > 0);
            return;
        }
        if (link->served) { /* or it has the deadline of an idle one */
            wire_deadline(wire, LIMIT_IDLE_MS);
        }
    }
    if (link->served) {
        wire_wake(wire); /* others get their turn */
    } else if (wire->readable || wire->ended || wire->hung_up) {
        /* Bytes that nobody asked for, or the end. */
        char byte;
        if (wire->ended || stream_read(&wire->stream, &byte, 1) != -EAGAIN) {
            link_close(link);
            return;
        }
        wire->readable = false;
    }
    wire_wait(wire, true);
}
