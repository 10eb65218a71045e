/* SPDX-License-Identifier: Apache-2.0
 * What both sides of HTTP/2 share: an nghttp2 session on a wire, the header block that is being
 * read, flows as DATA, and a budget for frames that cost work and move nothing.
 *
 * nghttp2 keeps the protocol (RFC 9113) and refuses what breaks it: upper-case names, fields of a
 * connection, Transfer-Encoding, a Content-Length that is not that of the DATA, control bytes.  A
 * stream's window is given back when its flow is taken, the connection's at once: so a stream that
 * nobody reads holds up to its window and does not hold up others. */
#pragma once

#include <nghttp2/nghttp2.h>

#include "proxy/exchange.h"
#include "proxy/wire.h"

struct h2 {
    nghttp2_session *session;
    struct wire *wire;
    void *owner; /* the connection or the link */
    bool server;
    /* The header block that is being read; nothing is allocated without one. */
    struct sb_buf text;
    struct http_field *fields;
    size_t nfields;
    bool too_large;
    unsigned idle_frames; /* since idle_since_ms */
    uint64_t idle_since_ms;
    bool settings_seen;
};

/* What the two sides do differently; `x` is the stream's. */
struct h2_events {
    /* A whole header block, trailers included.  `x` NULL: a new request. */
    void (*head)(struct h2 *h2, struct exchange *x, int32_t stream, bool ends);
    void (*data)(struct h2 *h2, struct exchange *x);
    void (*closed)(struct h2 *h2, struct exchange *x, uint32_t error);
    /* Servers: nghttp2 refused a request; `why` is static text. */
    void (*invalid)(struct h2 *h2, const char *why);
};

/* NULL when memory is short. */
struct h2 *h2_new(struct wire *wire, bool server, void *owner, const struct h2_events *events);
void h2_free(struct h2 *h2);

/* Reads what is there (wire->readable: and there is more), also when the far end does not read (or
 * two ends that write would wait for each other): 0, or -1 when the connection is of no use any
 * more. */
int h2_read(struct h2 *h2);
/* Writes frames and the wire: 0 or -1. */
int h2_write(struct h2 *h2);

/* The header block as a head, whose views live until the event ends; NULL or what is wrong. */
const char *h2_head(struct h2 *h2, struct http_head *ret, bool ends);
/* Appends the header block as trailer lines; false when one may not stand there. */
bool h2_trailers(const struct h2 *h2, struct sb_buf *out);

/* The fields of a message for nghttp2: pseudo fields first.  `ret` has room for H2_NV_MAX. */
enum { H2_NV_MAX = HTTP_FIELDS_MAX + HTTP_SET_MAX + 8 };
size_t h2_request_fields(const struct http_head *head, bool secure, nghttp2_nv *ret);
size_t h2_response_fields(const struct http_head *head, int status, nghttp2_nv *ret);
/* A body: the down flow of the stream's exchange for a server, else its up flow. */
const nghttp2_data_provider *h2_body(void);
/* The flow that the peer fills was taken: its window opens again. */
void h2_give_window(struct h2 *h2, struct exchange *x, struct flow *flow);
