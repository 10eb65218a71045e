/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/front1.h"

#include <errno.h>
#include <string.h>

#include "proxy/bounds.h"
#include "proxy/chunked.h"
#include "proxy/conn.h"
#include "proxy/http1.h"
#include "proxy/passage.h"

struct front1 {
    struct exchange x;
    bool active;       /* x is open */
    bool head_timed;   /* the first bytes of a head came: it must end in time */
    bool keep;         /* the client's connection stays for another request */
    bool chunks_known; /* the client speaks 1.1 */
    bool down_done;    /* the answer's last byte is in wire.out */
    enum http1_body body;
    uint64_t left;
    struct chunked chunked;
};

/* ---- Called by the exchange ---- */

static void on_answer(struct exchange *x)
{
    struct conn *conn = x->front_arg;
    struct front1 *front = conn->front1;
    const struct http_head *head = &x->answer.head;
    bool final = head->status >= 200;
    bool until_close = head->body == HTTP_BODY_STREAM && !front->chunks_known;
    front->keep &= !x->last && !until_close;
    if (head->status < 200 && !front->chunks_known) {
        return; /* HTTP/1.0 knows no interim answers */
    }
    http1_write_response(&conn->wire.out, head, front->chunks_known, final && !front->keep);
    wire_wake(&conn->wire);
}

static void on_wake(struct exchange *x)
{
    wire_wake(&((struct conn *)x->front_arg)->wire);
}

static const struct front_ops ops = {.answer = on_answer, .wake = on_wake};

/* ---- The head ---- */

static void open_exchange(struct conn *conn, const struct http1_head *head)
{
    struct front1 *front = conn->front1;
    front->active = true;
    front->keep = head && head->keep_alive && head->minor_version == 1;
    front->chunks_known = !head || head->minor_version == 1;
    front->down_done = false;
    front->body = head ? head->body : HTTP1_BODY_NONE;
    front->left = head ? head->http.body_length : 0;
    front->chunked = (struct chunked){0};
    wire_deadline(&conn->wire, LIMIT_IDLE_MS);
    exchange_init(&front->x, conn->proxy, &ops, conn);
    if (front->body == HTTP1_BODY_NONE && !(head && head->http.protocol_len)) {
        flow_end(&front->x.up);
    }
}

static int bad_request(struct conn *conn, const char *why)
{
    if (!conn->front1->active) {
        open_exchange(conn, NULL);
    }
    exchange_bad_request(&conn->front1->x, &conn->door, why);
    return STEP_AGAIN;
}

static int begin_connect(struct conn *conn, const struct http1_head *head)
{
    struct host host;
    uint16_t port;
    if (conn->door.pinned) {
        return bad_request(conn, "CONNECT inside a tunnel");
    }
    if (host_parse_authority(head->http.authority, head->http.authority_len, 443, &host, &port,
                             NULL) < 0) {
        return bad_request(conn, "the host is not a valid name or address");
    }
    host_map_alias(&host);
    sb_buf_consume(&conn->wire.in, head->head_len);
    front1_end(conn);
    return passage_begin(conn, &host, port, PASSAGE_CONNECT);
}

/* HTTP/1.0 may leave Host out: then the request is for the place that its connection leads to. */
static void name_place(const struct door *door, struct http1_head *head)
{
    static char text[HOST_MAX + sizeof("[]:65535")];
    bool v6 = door->host.is_address && !IN6_IS_ADDR_V4MAPPED(&door->host.address);
    int n =
        door->port == (door->secure ? 443 : 80)
            ? snprintf(text, sizeof(text), v6 ? "[%s]" : "%s", door->host.text)
            : snprintf(text, sizeof(text), v6 ? "[%s]:%u" : "%s:%u", door->host.text, door->port);
    head->http.authority = text;
    head->http.authority_len = (size_t)n;
}

static int begin_request(struct conn *conn, struct http1_head *head)
{
    struct front1 *front = conn->front1;
    if (head->connect) {
        return begin_connect(conn, head);
    }
    if (!conn->door.pinned && !head->absolute) {
        return bad_request(conn, "this is a proxy: ask for an absolute URL (http://host/path)");
    }
    if (!head->http.authority_len) {
        name_place(&conn->door, head);
    }
    open_exchange(conn, head);
    exchange_open(&front->x, &conn->door, &head->http, false);
    sb_buf_consume(&conn->wire.in, head->head_len);
    return STEP_AGAIN;
}

static int take_head(struct conn *conn)
{
    static struct http1_head head; /* large, and used for one call only */
    struct sb_buf *in = &conn->wire.in;
    const char *why = NULL;
    int r = in->len ? http1_parse_request(in->data, in->len, &head, &why) : 0;
    if (r < 0) {
        return bad_request(conn, why);
    }
    if (r > 0) {
        return begin_request(conn, &head);
    }
    if (in->len && !conn->front1->head_timed) {
        conn->front1->head_timed = true;
        wire_deadline(&conn->wire, LIMIT_HEAD_MS);
    }
    ssize_t n = conn_fill(conn, LIMIT_HEAD_BYTES);
    return n > 0 ? STEP_AGAIN : n == -EAGAIN ? STEP_WAIT : STEP_CLOSE;
}

/* ---- Bodies ---- */

/* -1: the body is malformed or was cut off. */
static int read_chunks(struct conn *conn, struct exchange *x, size_t room)
{
    struct sb_buf *in = &conn->wire.in;
    size_t used;
    int r = chunked_read(&conn->front1->chunked, in->data, in->len < room ? in->len : room, &used,
                         flow_input(&x->up), &x->up.trailers);
    sb_buf_consume(in, used);
    flow_moved(&x->up);
    if (r == 1 && !exchange_trailers_fit(x)) {
        return -1;
    }
    if (r == 1) {
        flow_end(&x->up);
    }
    return r < 0 || x->up.trailers.overflow ? -1 : 1;
}

/* Bytes that came with the head. */
static int take_early(struct conn *conn, struct exchange *x, size_t room)
{
    struct sb_buf *in = &conn->wire.in;
    if (conn->front1->body == HTTP1_BODY_CHUNKED && !x->switched) {
        return read_chunks(conn, x, room);
    }
    size_t n = in->len < room ? in->len : room;
    sb_buf_append(flow_input(&x->up), in->data, n);
    flow_moved(&x->up);
    sb_buf_consume(in, n);
    return (int)n;
}

static int read_up(struct conn *conn, struct exchange *x, size_t room)
{
    bool chunked = conn->front1->body == HTTP1_BODY_CHUNKED && !x->switched;
    ssize_t n = wire_read(&conn->wire, chunked ? &conn->wire.in : flow_input(&x->up), room);
    if (n > 0 && !chunked) {
        flow_moved(&x->up);
    }
    if (n == 0 && x->switched) {
        flow_end(&x->up);
        return 0;
    }
    return n == -EAGAIN ? 0 : n > 0 ? (int)n : -1;
}

/* 1 moved, 0 must wait, -1 broken. */
static int move_up(struct conn *conn)
{
    struct front1 *front = conn->front1;
    struct exchange *x = &front->x;
    /* An upgrade has no body, and no bytes of the new protocol before the answer. */
    bool waits = front->body == HTTP1_BODY_NONE && !x->switched;
    if (x->up.read || waits || !x->back) {
        return 0;
    }
    size_t room = flow_room(&x->up);
    if (!x->switched && front->body == HTTP1_BODY_LENGTH && front->left < room) {
        room = (size_t)front->left;
    }
    if (!room) {
        return 0;
    }
    int n = conn->wire.in.len ? take_early(conn, x, room) : read_up(conn, x, room);
    if (n > 0 && !x->switched && front->body == HTTP1_BODY_LENGTH) {
        front->left -= (size_t)n;
        if (front->left == 0) {
            flow_end(&x->up);
        }
    }
    if (n > 0 || x->up.read) {
        exchange_wake_back(x);
    }
    return n > 0 ? 1 : n;
}

static void put_end(struct conn *conn, struct exchange *x)
{
    const struct http_head *head = &x->answer.head;
    if (!x->switched && head->body == HTTP_BODY_STREAM && conn->front1->chunks_known) {
        chunked_write_end(&conn->wire.out, x->down.trailers.data, x->down.trailers.len);
    }
    conn->front1->down_done = true;
}

/* 1 moved, 0 must wait, -1 broken. */
static int move_down(struct conn *conn)
{
    struct front1 *front = conn->front1;
    struct exchange *x = &front->x;
    struct wire *wire = &conn->wire;
    size_t before = x->answered ? x->down.data.len : 0;
    bool chunked = !x->switched && x->answer.head.body == HTTP_BODY_STREAM && front->chunks_known;
    if (wire->blocked) {
        return 0;
    }
    if (before && chunked) {
        size_t n = before < LIMIT_BUFFER_BYTES ? before : LIMIT_BUFFER_BYTES;
        chunked_write(&wire->out, x->down.data.data, n);
        sb_buf_consume(&x->down.data, n);
    } else if (before && wire->out.len && wire->out.len + before <= LIMIT_READ_BYTES) {
        sb_buf_append(&wire->out, x->down.data.data, before);
        sb_buf_clear(&x->down.data);
    }
    bool ends = x->answered && x->down.ended && !front->down_done;
    if (ends && !x->down.data.len) {
        put_end(conn, x);
    }
    int r = wire_flush(wire);
    if (r == 0 && before && x->down.data.len && !chunked) {
        r = wire_send(wire, &x->down.data);
    }
    size_t moved = before - (before ? x->down.data.len : 0);
    if (flow_took(&x->down, moved)) {
        exchange_wake_back(x);
    }
    return r < 0 && r != -EAGAIN ? -1 : moved || (ends && front->down_done);
}

/* ---- One after another ---- */

static int finish(struct conn *conn)
{
    struct front1 *front = conn->front1;
    /* An upgrade that was not granted leaves a request without a body. */
    bool read = front->x.up.read || front->body == HTTP1_BODY_NONE;
    bool keep = front->keep && read && !front->x.switched;
    exchange_close(&front->x, NULL);
    front->active = front->head_timed = false;
    if (!keep) {
        front1_end(conn);
        return conn_linger(conn);
    }
    wire_rest(&conn->wire);
    wire_deadline(&conn->wire, LIMIT_IDLE_MS);
    return STEP_AGAIN;
}

/* The exchange cannot go on; a reset of the client ends what waits for nobody. */
static int give_up(struct conn *conn, const char *reason)
{
    struct exchange *x = &conn->front1->x;
    if (!x->broken) { /* or it has its own */
        x->judgement.record.reason = reason;
    }
    return STEP_CLOSE;
}

int front1_step(struct conn *conn)
{
    struct front1 *front = conn->front1;
    struct exchange *x = &front->x;
    if (!front->active) {
        return take_head(conn);
    }
    if (x->broken || conn->wire.hung_up) {
        return give_up(conn, "client-gone");
    }
    int up = move_up(conn);
    int down = move_down(conn);
    if (down < 0 || (up < 0 && !x->answered)) {
        return give_up(conn, "client-gone");
    }
    if (front->down_done && wire_is_sent(&conn->wire)) {
        return finish(conn);
    }
    if (up > 0 || down > 0) {
        wire_deadline(&conn->wire, LIMIT_IDLE_MS);
        return STEP_AGAIN;
    }
    return STEP_WAIT;
}

bool front1_reads(const struct conn *conn)
{
    struct front1 *front = conn->front1;
    struct exchange *x = &front->x;
    bool body = front->body != HTTP1_BODY_NONE || x->switched;
    return !front->active || (body && x->back && !x->up.read && flow_room(&x->up) > 0);
}

int front1_begin(struct conn *conn)
{
    conn->state = CONN_HTTP1;
    conn->front1 = sb_xcalloc(1, sizeof(*conn->front1));
    wire_deadline(&conn->wire, LIMIT_HEAD_MS);
    return STEP_AGAIN;
}

bool front1_works(const struct conn *conn)
{
    return conn->front1 && conn->front1->active;
}

void front1_cut_off(struct conn *conn, const char *reason)
{
    if (front1_works(conn)) {
        conn->front1->x.broken = true;
        conn->front1->x.judgement.record.reason = reason;
    }
}

void front1_end(struct conn *conn)
{
    struct front1 *front = sb_steal(&conn->front1);
    if (front && front->active) {
        exchange_close(&front->x, NULL);
    }
    free(front);
}
