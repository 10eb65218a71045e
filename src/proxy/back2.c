/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/back2.h"

#include "proxy/bounds.h"
#include "proxy/link.h"

enum { ORIGIN = 0 }; /* index of x->stream */

/* ---- Called by the exchange ---- */

static void wake(struct exchange *x)
{
    struct h2 *h2 = x->link->h2;
    if (x->stream[ORIGIN]) {
        h2_give_window(h2, x, &x->down);
        nghttp2_session_resume_data(h2->session, x->stream[ORIGIN]);
    }
    wire_wake(&x->link->wire);
}

static void cancel(struct exchange *x)
{
    struct h2 *h2 = x->link->h2;
    if (x->stream[ORIGIN]) {
        nghttp2_session_set_stream_user_data(h2->session, x->stream[ORIGIN], NULL);
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, x->stream[ORIGIN],
                                  NGHTTP2_CANCEL);
    }
    wire_wake(&x->link->wire);
}

static const struct back_ops ops = {.wake = wake, .cancel = cancel};

/* ---- Requests ---- */

static void submit(struct link *link, struct exchange *x)
{
    struct h2 *h2 = link->h2;
    const struct http_head *head = &x->request.head;
    static nghttp2_nv nv[H2_NV_MAX]; /* large, and used for one call only */
    size_t n = h2_request_fields(head, x->secure, nv);
    int32_t id = nghttp2_submit_request(h2->session, NULL, nv, n,
                                        head->body == HTTP_BODY_NONE ? NULL : h2_body(), x);
    if (id < 0) {
        exchange_detach(x);
        exchange_fail(x, "upstream", "sbx: the request does not fit into HTTP/2\n");
        return;
    }
    x->stream[ORIGIN] = id;
}

/* An extended CONNECT has to wait until the origin has said whether it knows it. */
static void start(struct link *link, struct exchange *x)
{
    if (!http_method_is(&x->request.head, "CONNECT")) {
        submit(link, x);
        return;
    }
    if (!link->h2->settings_seen) {
        return;
    }
    if (nghttp2_session_get_remote_settings(link->h2->session,
                                            NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL)) {
        submit(link, x);
        return;
    }
    exchange_detach(x);
    x->http1_only = true;
    link_request(x);
}

void back2_serve(struct link *link, struct exchange *x)
{
    x->back = &ops;
    x->stream[ORIGIN] = 0;
    link->wire.secret = true;
    start(link, x);
    wire_wake(&link->wire);
}

bool back2_has_room(const struct link *link)
{
    uint32_t allowed = nghttp2_session_get_remote_settings(link->h2->session,
                                                           NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return nghttp2_session_check_request_allowed(link->h2->session) &&
           link->nserved < LIMIT_STREAMS && link->nserved < allowed;
}

/* ---- Answers ---- */

static void reset(struct link *link, struct exchange *x, const char *why)
{
    SB_CLEANUP(free)
    char *text = sb_xasprintf("sbx: %s:%u: %s\n", link->origin->host.text, link->origin->port, why);
    cancel(x);
    exchange_detach(x);
    exchange_fail(x, x->answered ? "cut-off" : "upstream", text);
}

static void end_answer(struct exchange *x, bool ends)
{
    if (ends) {
        flow_end(&x->down);
        exchange_wake_front(x);
    }
}

static void on_head(struct h2 *h2, struct exchange *x, int32_t stream, bool ends)
{
    (void)stream;
    struct link *link = h2->owner;
    if (!x) {
        return;
    }
    if (x->answered) {
        if (!h2_trailers(h2, &x->down.trailers)) {
            reset(link, x, "the answer's trailers hold what may not stand there");
            return;
        }
        end_answer(x, true);
        return;
    }
    struct http_head head;
    const char *why = h2_head(h2, &head, ends);
    why = why ? why : exchange_answer(x, &head);
    if (why) {
        reset(link, x, why);
    } else {
        end_answer(x, ends);
    }
}

static void on_data(struct h2 *h2, struct exchange *x)
{
    (void)h2;
    exchange_wake_front(x);
}

static void on_closed(struct h2 *h2, struct exchange *x, uint32_t error)
{
    struct link *link = h2->owner;
    bool complete = x->down.read;
    exchange_detach(x);
    if (complete) {
        exchange_wake_front(x);
        return;
    }
    SB_CLEANUP(free)
    char *text = sb_xasprintf("sbx: %s:%u: the stream was reset: %s\n", link->origin->host.text,
                              link->origin->port, nghttp2_http2_strerror(error));
    if (error == NGHTTP2_REFUSED_STREAM) {
        exchange_lost(x, true, text);
    } else {
        exchange_fail(x, x->answered ? "cut-off" : "upstream", text);
    }
}

static const struct h2_events events = {.head = on_head, .data = on_data, .closed = on_closed};

/* ---- The connection ---- */

int back2_begin(struct link *link)
{
    link->h2 = h2_new(&link->wire, false, link, &events);
    return link->h2 ? 0 : -1;
}

/* Those that waited for the origin's settings. */
static void start_held(struct link *link)
{
    struct exchange *next;
    for (struct exchange *x = link->served; x; x = next) {
        next = x->link_next;
        if (!x->stream[ORIGIN]) {
            start(link, x);
        }
    }
}

void back2_run(struct link *link)
{
    struct h2 *h2 = link->h2;
    bool was_settled = h2->settings_seen;
    if (h2_read(h2) < 0) {
        link_fail(link, "the connection ended");
        return;
    }
    if (h2->settings_seen && !was_settled) {
        start_held(link);
    }
    if (h2_write(h2) < 0) {
        link_fail(link, "the connection ended");
        return;
    }
    if (link->nserved) {
        wire_deadline(&link->wire, LIMIT_IDLE_MS);
    } else if (!nghttp2_session_check_request_allowed(h2->session)) {
        link_close(link);
        return;
    }
    link_free_again(link);
    if (link->state != LINK_HTTP2) {
        return;
    }
    wire_wait(&link->wire, true);
    if (link->wire.readable) {
        wire_wake(&link->wire); /* others get their turn */
    }
}

void back2_goodbye(struct link *link)
{
    if (link->h2 && !link->nserved) {
        nghttp2_session_terminate_session(link->h2->session, NGHTTP2_NO_ERROR);
        h2_write(link->h2);
    }
}
