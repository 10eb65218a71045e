/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/front2.h"

#include <string.h>

#include "proxy/bounds.h"
#include "proxy/conn.h"
#include "proxy/h2.h"

/* One stream; freed when nghttp2 closes it. */
struct stream2 {
    struct exchange x;
    struct conn *conn;
    struct stream2 *prev, *next;
    size_t unwanted; /* bytes of the request that came when it was answered already */
};

struct front2 {
    struct h2 *h2;
    struct stream2 *streams;
    size_t nstreams;
};

enum { SANDBOX = 1 }; /* index of x->stream */

static struct stream2 *stream_of(struct exchange *x)
{
    return x->front_arg;
}

static void refuse_stream(struct h2 *h2, int32_t stream, uint32_t error)
{
    nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream, error);
}

/* Nobody wants the rest.  It is read all the same, up to a limit: to curl and what is made with it
 * a reset, which RFC 9113 8.1 has for this, is a failure that hides the answer. */
static void drop_data(struct h2 *h2, struct stream2 *stream)
{
    struct flow *up = &stream->x.up;
    stream->unwanted += up->data.len;
    flow_took(up, up->data.len);
    sb_buf_clear(&up->data);
    if (stream->unwanted > LIMIT_UNWANTED_BYTES) {
        refuse_stream(h2, stream->x.stream[SANDBOX], NGHTTP2_NO_ERROR);
    } else {
        h2_give_window(h2, &stream->x, up);
    }
}

/* ---- Called by the exchange ---- */

static void on_answer(struct exchange *x)
{
    struct conn *conn = stream_of(x)->conn;
    nghttp2_session *session = conn->front2->h2->session;
    const struct http_head *head = &x->answer.head;
    static nghttp2_nv nv[H2_NV_MAX]; /* large, and used for one call only */
    /* What HTTP/1.1 switches to, HTTP/2 has connected to (RFC 8441). */
    size_t n = h2_response_fields(head, head->status == 101 ? 200 : head->status, nv);
    if (!x->answered) {
        nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, x->stream[SANDBOX], NULL, nv, n, NULL);
    } else {
        bool empty = x->down.ended && !x->down.data.len && !x->down.trailers.len;
        nghttp2_submit_response(session, x->stream[SANDBOX], nv, n, empty ? NULL : h2_body());
    }
    wire_wake(&conn->wire);
}

static void on_wake(struct exchange *x)
{
    struct conn *conn = stream_of(x)->conn;
    struct h2 *h2 = conn->front2->h2;
    if (x->broken) {
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, x->stream[SANDBOX],
                                  NGHTTP2_INTERNAL_ERROR);
    }
    if (x->answered && !x->back) {
        drop_data(h2, stream_of(x));
    } else {
        h2_give_window(h2, x, &x->up);
    }
    nghttp2_session_resume_data(h2->session, x->stream[SANDBOX]);
    wire_wake(&conn->wire);
}

static const struct front_ops ops = {.answer = on_answer, .wake = on_wake};

/* ---- Called by the session ---- */

static struct stream2 *stream_new(struct conn *conn, int32_t id)
{
    struct front2 *front = conn->front2;
    struct stream2 *stream = sb_xcalloc(1, sizeof(*stream));
    stream->conn = conn;
    stream->next = front->streams;
    if (stream->next) {
        stream->next->prev = stream;
    }
    front->streams = stream;
    front->nstreams++;
    exchange_init(&stream->x, conn->proxy, &ops, stream);
    stream->x.stream[SANDBOX] = id;
    nghttp2_session_set_stream_user_data(front->h2->session, id, &stream->x);
    return stream;
}

static void stream_free(struct stream2 *stream, const char *reason)
{
    struct front2 *front = stream->conn->front2;
    exchange_close(&stream->x, reason);
    *(stream->prev ? &stream->prev->next : &front->streams) = stream->next;
    if (stream->next) {
        stream->next->prev = stream->prev;
    }
    front->nstreams--;
    free(stream);
}

static const char *check_request(const struct http_head *head)
{
    bool connect = http_method_is(head, "CONNECT");
    if (connect && !head->protocol_len) {
        return "CONNECT inside a tunnel";
    }
    if (head->protocol_len && !http_text_is(head->protocol, head->protocol_len, "websocket")) {
        return "the only extended CONNECT is that of a websocket";
    }
    return NULL;
}

static void begin_request(struct h2 *h2, int32_t id, bool ends)
{
    struct conn *conn = h2->owner;
    struct http_head head;
    const char *why = h2_head(h2, &head, ends);
    if (conn->proxy->nexchanges >= LIMIT_EXCHANGES) {
        conn_make_room_for_request(conn->proxy); /* the client tries again */
        refuse_stream(h2, id, NGHTTP2_REFUSED_STREAM);
        return;
    }
    struct exchange *x = &stream_new(conn, id)->x;
    if (ends) {
        flow_end(&x->up);
    }
    why = why ? why : check_request(&head);
    if (why) {
        exchange_bad_request(x, &conn->door, why);
    } else {
        exchange_open(x, &conn->door, &head, true);
    }
}

static void on_head(struct h2 *h2, struct exchange *x, int32_t id, bool ends)
{
    if (!x) {
        begin_request(h2, id, ends);
        return;
    }
    if (!h2_trailers(h2, &x->up.trailers) || !exchange_trailers_fit(x)) {
        refuse_stream(h2, id, NGHTTP2_PROTOCOL_ERROR);
        return;
    }
    flow_end(&x->up);
    exchange_wake_back(x);
}

static void on_data(struct h2 *h2, struct exchange *x)
{
    if (x->back) {
        exchange_wake_back(x);
    } else if (x->answered) {
        drop_data(h2, stream_of(x));
    }
}

static void on_closed(struct h2 *h2, struct exchange *x, uint32_t error)
{
    (void)h2;
    bool complete = x->down.ended && !x->down.data.len && error == NGHTTP2_NO_ERROR;
    stream_free(stream_of(x), complete || x->broken ? NULL : "client-gone");
}

static void on_invalid(struct h2 *h2, const char *why)
{
    const struct conn *conn = h2->owner;
    exchange_log_unread(conn->proxy, &conn->door, why);
}

static const struct h2_events events = {
    .head = on_head, .data = on_data, .closed = on_closed, .invalid = on_invalid};

/* ---- The connection ---- */

int front2_begin(struct conn *conn)
{
    conn->state = CONN_HTTP2;
    conn->front2 = sb_xcalloc(1, sizeof(*conn->front2));
    conn->front2->h2 = h2_new(&conn->wire, true, conn, &events);
    wire_deadline(&conn->wire, LIMIT_IDLE_MS);
    return conn->front2->h2 ? STEP_AGAIN : STEP_CLOSE;
}

int front2_step(struct conn *conn)
{
    struct h2 *h2 = conn->front2->h2;
    bool works = conn->wire.readable || conn->front2->nstreams;
    if (conn->wire.hung_up || h2_read(h2) < 0) {
        return STEP_CLOSE;
    }
    if (h2_write(h2) < 0) {
        return STEP_CLOSE;
    }
    if (works) {
        wire_deadline(&conn->wire, LIMIT_IDLE_MS);
    }
    bool over = !nghttp2_session_want_read(h2->session) &&
                !nghttp2_session_want_write(h2->session) && wire_is_sent(&conn->wire);
    return over ? conn_linger(conn) : conn->wire.readable ? STEP_AGAIN : STEP_WAIT;
}

bool front2_works(const struct conn *conn)
{
    return conn->front2 && conn->front2->nstreams;
}

void front2_cut_off(struct conn *conn, const char *reason)
{
    struct stream2 *stream = conn->front2 ? conn->front2->streams : NULL;
    for (; stream; stream = stream->next) {
        stream->x.broken = true;
        stream->x.judgement.record.reason = reason;
    }
}

void front2_end(struct conn *conn)
{
    struct front2 *front = conn->front2;
    if (!front) {
        return;
    }
    while (front->streams) {
        bool broken = front->streams->x.broken;
        stream_free(front->streams, broken ? NULL : "client-gone");
    }
    h2_free(front->h2);
    free(front);
    conn->front2 = NULL;
}
