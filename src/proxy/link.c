/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/link.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <string.h>
#include <strings.h>

#include "proxy/ahead.h"
#include "proxy/back2.h"
#include "proxy/bounds.h"

static void link_run(void *arg);

/* ---- Waiting ---- */

static void enqueue(struct origin *origin, struct exchange *x)
{
    x->link_prev = origin->waiting_last;
    x->link_next = NULL;
    *(x->link_prev ? &x->link_prev->link_next : &origin->waiting) = x;
    origin->waiting_last = x;
}

static void dequeue(struct origin *origin, struct exchange *x)
{
    *(x->link_prev ? &x->link_prev->link_next : &origin->waiting) = x->link_next;
    *(x->link_next ? &x->link_next->link_prev : &origin->waiting_last) = x->link_prev;
    x->link_prev = x->link_next = NULL;
}

/* ---- Links ---- */

/* It serves nobody from now on. */
static void enter_idle(struct link *link)
{
    struct proxy *proxy = link->proxy;
    link->idle_prev = proxy->idle_last;
    link->idle_next = NULL;
    *(link->idle_prev ? &link->idle_prev->idle_next : &proxy->idle_first) = link;
    proxy->idle_last = link;
    proxy->nidle++;
}

static void leave_idle(struct link *link)
{
    struct proxy *proxy = link->proxy;
    *(link->idle_prev ? &link->idle_prev->idle_next : &proxy->idle_first) = link->idle_next;
    *(link->idle_next ? &link->idle_next->idle_prev : &proxy->idle_last) = link->idle_prev;
    link->idle_prev = link->idle_next = NULL;
    proxy->nidle--;
}

static bool is_ready(const struct link *link)
{
    return link->state == LINK_HTTP1 || link->state == LINK_HTTP2;
}

static void link_late(void *arg)
{
    struct link *link = arg;
    if (!link->nserved && is_ready(link)) {
        link_close(link);
    } else {
        link_fail(link, "no byte came for too long");
    }
}

void link_close(struct link *link)
{
    if (link->state == LINK_CLOSED) {
        return;
    }
    if (is_ready(link) && !link->nserved) {
        leave_idle(link);
    }
    if (link->state == LINK_HTTP2) {
        back2_goodbye(link);
    }
    if (link->upstream) {
        upstream_cancel(link->upstream);
    }
    if (link->origin->ahead) {
        ahead_end(link->origin);
    }
    link->state = LINK_CLOSED;
    /* It may be running: the loop frees it when it is not. */
    wire_wake(&link->wire);
}

/* The next connection resumes this one's session, which was verified for this very host. */
static void keep_session(struct link *link)
{
    struct origin *origin = link->origin;
    struct ssl_session_st *session = stream_session(&link->wire.stream);
    if (session) {
        SSL_SESSION_free(origin->session);
        origin->session = session;
    }
}

static void link_free(struct link *link)
{
    struct origin *origin = link->origin;
    free(link->upstream);
    via_unref(link->taker);
    h2_free(link->h2);
    keep_session(link);
    wire_close(&link->wire);
    *(link->prev ? &link->prev->next : &origin->links) = link->next;
    if (link->next) {
        link->next->prev = link->prev;
    }
    free(link);
    if (origin->retired && !origin->links && !origin->waiting) {
        origin_free(origin);
    }
}

/* Does the request sign its connection in? */
static bool signs_in(const struct exchange *x)
{
    static const char *const schemes[] = {"NTLM", "Negotiate"};
    const struct http_head *head = &x->request.head;
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        for (size_t s = 0; s < SB_ARRAY_LEN(schemes) && http_field_is(field, "authorization");
             s++) {
            size_t n = strlen(schemes[s]);
            if (field->value_len >= n && strncasecmp(field->value, schemes[s], n) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void serve(struct link *link, struct exchange *x)
{
    if (signs_in(x)) {
        link->bound = x->client;
    }
    if (!link->nserved++) {
        leave_idle(link);
    }
    x->link = link;
    x->link_prev = NULL;
    x->link_next = link->served;
    if (x->link_next) {
        x->link_next->link_prev = x;
    }
    link->served = x;
    wire_deadline(&link->wire, LIMIT_IDLE_MS);
    if (link->state == LINK_HTTP2) {
        back2_serve(link, x);
    } else {
        back1_serve(link, x);
    }
    if (!x->up.ended) {
        exchange_wake_front(x); /* which has waited with the body */
    }
}

/* Nobody waits any more: what is being connected is not needed. */
static void abandon(struct origin *origin)
{
    for (struct link *link = origin->links; link; link = link->next) {
        if (link->state == LINK_CONNECTING || link->state == LINK_TLS) {
            link_close(link);
        }
    }
}

void link_forget(struct exchange *x)
{
    struct link *link = x->link;
    if (link) {
        *(x->link_prev ? &x->link_prev->link_next : &link->served) = x->link_next;
        if (x->link_next) {
            x->link_next->link_prev = x->link_prev;
        }
        x->link_prev = x->link_next = NULL;
        x->link = NULL;
        x->origin = NULL;
        link->used = true;
        if (--link->nserved == 0 && link->state != LINK_CLOSED) {
            enter_idle(link);
        }
    } else if (x->origin) {
        dequeue(x->origin, x);
        if (!x->origin->waiting) {
            abandon(x->origin);
        }
        x->origin = NULL;
    }
}

/* May a request that cannot be repeated go to this link, which may have been closed meanwhile? */
static bool is_alive(struct link *link)
{
    char byte;
    if (link->state == LINK_HTTP2) { /* what has come may be its end */
        return link->nserved || stream_is_silent(&link->wire.stream);
    }
    return stream_read(&link->wire.stream, &byte, 1) == -EAGAIN;
}

/* May this link take one more? */
static bool has_room(const struct link *link)
{
    return link->state == LINK_HTTP2   ? back2_has_room(link)
           : link->state == LINK_HTTP1 ? !link->nserved
                                       : false;
}

/* For this request?  One that signs in must not share a link that serves others, either. */
static bool may_take(const struct link *link, const struct exchange *x)
{
    bool free_to_bind = !link->bound && !(link->nserved && signs_in(x));
    return has_room(link) && (free_to_bind || link->bound == x->client);
}

static void need_links(struct origin *origin);

static void serve_waiting(struct link *link)
{
    struct origin *origin = link->origin;
    struct exchange *next;
    for (struct exchange *x = origin->waiting; x && has_room(link); x = next) {
        next = x->link_next;
        if (may_take(link, x)) {
            dequeue(origin, x);
            serve(link, x);
        }
    }
}

static struct link *find_link(const struct origin *origin, const struct exchange *x)
{
    bool repeatable = exchange_repeatable(x);
    struct link *found = NULL;
    for (struct link *link = origin->links; link; link = link->next) {
        /* The one that its client has signed in goes before all others. */
        bool better = !found || (link->bound && !found->bound);
        if (better && may_take(link, x) && (repeatable || is_alive(link))) {
            found = link;
        }
    }
    return found;
}

void link_free_again(struct link *link)
{
    if (link->state == LINK_CLOSED) {
        return;
    }
    serve_waiting(link);
    if (link->nserved) {
        return;
    }
    if (link->origin->retired) {
        link_close(link);
        return;
    }
    wire_rest(&link->wire);
    if (!link->origin->ahead) { /* whose time does not begin anew with what its origin sends */
        wire_deadline(&link->wire, LIMIT_LINK_IDLE_MS);
    }
    if (!link->origin->session) {
        keep_session(link);
    }
    if (link->proxy->nidle > LIMIT_IDLE_LINKS) {
        link_close(link->proxy->idle_first);
    }
}

/* No connection came about: what waits for one fails, and so learns what is the matter. */
static void fail_waiting(struct link *link, const char *reason, const char *text)
{
    struct origin *origin = link->origin;
    if (origin->ahead) {
        ahead_failed(origin, reason);
    }
    link_close(link);
    for (struct exchange *x; (x = origin->waiting);) {
        exchange_detach(x);
        exchange_fail(x, reason, text);
    }
}

static void fail_connecting(struct link *link, const char *reason, const char *error)
{
    const struct origin *origin = link->origin;
    SB_CLEANUP(free)
    char *text =
        sb_xasprintf("sbx: cannot reach %s:%u: %s\n", origin->host.text, origin->port, error);
    fail_waiting(link, reason, text);
}

static void fail_tls(struct link *link, const char *error)
{
    const struct origin *origin = link->origin;
    SB_CLEANUP(free)
    char *text =
        sb_xasprintf("sbx: TLS with %s:%u failed: %s\n%s", origin->host.text, origin->port, error,
                     stream_distrusts(&link->wire.stream)
                         ? "For an authority of your own, on the host: sbx settings set "
                           "tls.extra-ca FILE\n"
                         : "");
    fail_waiting(link, "upstream-tls", text);
}

void link_fail_password(struct link *link)
{
    const struct origin *origin = link->origin;
    SB_CLEANUP(free) char *error = via_password_text(link->taker);
    SB_CLEANUP(free)
    char *text =
        sb_xasprintf("sbx: cannot reach %s:%u: %s\n", origin->host.text, origin->port, error);
    link_close(link);
    for (struct exchange *x; (x = link->served);) {
        exchange_detach(x);
        exchange_fail(x, "proxy-auth", text);
    }
}

void link_fail(struct link *link, const char *error)
{
    const struct origin *origin = link->origin;
    bool used = link->used; /* before any of these leaves it */
    if (link->state == LINK_TLS) {
        fail_tls(link, error);
        return;
    }
    link_close(link);
    SB_CLEANUP(free)
    char *why = sb_xasprintf("sbx: %s:%u: %s\n", origin->host.text, origin->port, error);
    for (struct exchange *x; (x = link->served);) {
        exchange_detach(x);
        if (used) {
            exchange_lost(x, false, why);
        } else {
            exchange_fail(x, x->answered ? "cut-off" : "upstream", why);
        }
    }
}

/* ---- Connecting ---- */

static void link_ready(struct link *link, bool http2)
{
    struct origin *origin = link->origin;
    origin->speaks = http2 ? ORIGIN_HTTP2 : ORIGIN_HTTP1;
    link->state = http2 ? LINK_HTTP2 : LINK_HTTP1;
    enter_idle(link);
    wire_deadline(&link->wire, origin->ahead ? LIMIT_AHEAD_MS : LIMIT_LINK_IDLE_MS);
    if (http2 && back2_begin(link) < 0) {
        link_fail(link, "HTTP/2 cannot be set up");
        return;
    }
    serve_waiting(link);
    need_links(origin);
}

static void begin_tls(struct link *link)
{
    const struct origin *origin = link->origin;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    link->state = LINK_TLS;
    if (tls_start_client(link->proxy->tls, origin->host.text, origin->host.is_address,
                         !origin->http1_only, origin->session, &link->wire.stream, &err) < 0) {
        link_fail(link, err->message);
        return;
    }
    wire_deadline(&link->wire, LIMIT_ORIGIN_TLS_MS);
    wire_wake(&link->wire);
}

static void handshake(struct link *link)
{
    int r = wire_handshake(&link->wire);
    if (r == 1) {
        link_ready(link, stream_speaks_http2(&link->wire.stream));
        wire_wake(&link->wire);
    } else if (r == -EAGAIN) {
        wire_wait(&link->wire, true);
    } else {
        link_fail(link, stream_handshake_error(&link->wire.stream));
    }
}

static void on_upstream(void *arg, const struct upstream_end *end)
{
    struct link *link = arg;
    struct origin *origin = link->origin;
    if (end->status == UPSTREAM_OK) {
        free(sb_steal(&link->upstream));
        link->taker = end->taker ? via_ref(end->taker) : NULL;
        wire_open(&link->wire, link->proxy->loop, end->fd, link_run, link_late, link);
        if (origin->secure) {
            begin_tls(link);
        } else {
            link_ready(link, origin->speaks == ORIGIN_HTTP2);
            wire_wake(&link->wire);
        }
        return;
    }
    if (end->status == UPSTREAM_FAILED) {
        fail_connecting(link, end->reason, end->error);
        return;
    }
    if (origin->ahead) {
        ahead_refused(origin);
    }
    link_close(link);
    for (struct exchange *x; (x = origin->waiting);) {
        exchange_detach(x);
        exchange_refuse(x, "address");
    }
}

static void connect_link(struct origin *origin, const struct policy_decision *decision)
{
    struct link *link = sb_xcalloc(1, sizeof(*link));
    link->proxy = origin->proxy;
    link->origin = origin;
    link->decision = *decision;
    link->next = origin->links;
    if (link->next) {
        link->next->prev = link;
    }
    origin->links = link;
    wire_open(&link->wire, link->proxy->loop, -1, link_run, link_late, link);
    link->upstream = sb_xcalloc(1, sizeof(*link->upstream));
    /* A websocket is no mere request: it gets a tunnel, since proxies seldom pass it on. */
    bool for_requests = !origin->secure && !origin->http1_only && !origin->http2_known;
    upstream_connect(link->upstream, link->proxy, &origin->host, origin->port, &link->decision,
                     for_requests, on_upstream, link);
}

/* As many connections as what waits can use. */
static void need_links(struct origin *origin)
{
    size_t waiting = 0, connecting = 0;
    for (const struct exchange *x = origin->waiting; x; x = x->link_next) {
        waiting++;
    }
    for (const struct link *link = origin->links; link; link = link->next) {
        connecting += link->state == LINK_CONNECTING || link->state == LINK_TLS;
    }
    size_t wanted = origin->speaks == ORIGIN_HTTP1 ? waiting : waiting > 0;
    for (; connecting < wanted && origin->waiting; connecting++) {
        connect_link(origin, &origin->waiting->judgement.decision);
    }
}

void link_request(struct exchange *x)
{
    /* Only extended CONNECT (RFC 8441) can ask an HTTP/2 origin for another protocol. */
    x->http1_only |= x->request.head.protocol_len && !http_method_is(&x->request.head, "CONNECT");
    struct origin *origin = origin_of(x);
    struct link *link = x->retried ? NULL : find_link(origin, x);
    x->origin = origin;
    if (link) {
        link->used |= !link->nserved;
        serve(link, x);
        return;
    }
    enqueue(origin, x);
    need_links(origin);
}

void link_ahead(struct origin *origin)
{
    connect_link(origin, &origin->ahead->judgement.decision);
}

/* ---- Running ---- */

static void link_run(void *arg)
{
    struct link *link = arg;
    switch (link->state) {
    case LINK_CONNECTING:
        break;
    case LINK_TLS:
        handshake(link);
        break;
    case LINK_HTTP1:
        back1_run(link);
        break;
    case LINK_HTTP2:
        back2_run(link);
        break;
    case LINK_CLOSED:
        break;
    }
    if (link->state == LINK_CLOSED) {
        link_free(link);
    }
}

void origins_retire(struct proxy *proxy)
{
    for (struct origin *origin = proxy->origins; origin; origin = origin->next) {
        origin->retired = true;
        for (struct link *link = origin->links; link; link = link->next) {
            if (!link->nserved) {
                link_close(link);
            }
        }
    }
    /* What waited for a connection waits for one under the new rules. */
    for (struct exchange *x = proxy->exchanges; x; x = x->next) {
        if (x->origin && !x->link && x->origin->retired) {
            exchange_detach(x);
            if (!x->broken) {
                link_request(x);
            }
        }
    }
    origins_forget_retired(proxy);
}
