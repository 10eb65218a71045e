/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1.x message heads, read strictly by RFC 9112, and written.
 *
 * The parsers are zero-copy: every view points into the caller's bytes and lives as long as they
 * do. They allocate nothing, know no sockets, and never repair a message: what two readers could
 * understand differently is refused, because that is how requests are smuggled. */
#pragma once

#include "proxy/http.h"

/* How the end of a body shows itself in HTTP/1. */
enum http1_body { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED, HTTP1_BODY_UNTIL_CLOSE };

struct http1_head {
    struct http_head http; /* its fields are `fields` */
    struct http_field fields[HTTP_FIELDS_MAX];
    const char *target; /* requests, as written */
    size_t target_len;
    bool absolute, connect; /* the form of the target (RFC 9112 3.2) */
    int minor_version;      /* 0 or 1 */
    enum http1_body body;
    bool keep_alive;
    size_t head_len; /* bytes of the head: the body starts there */
};

/* 1 complete, 0 more bytes are needed, -1 refused (*reterr: static text for the 400 answer).
 * `ret` is undefined unless 1 is returned.
 *
 * A request's authority is, in absolute form, that of its target, which replaces Host (RFC 9112
 * 3.2.2); for CONNECT the target; else Host (empty when a HTTP/1.0 request has none).  Userinfo is
 * refused; otherwise the authority is not validated here. */
int http1_parse_request(const char *data, size_t len, struct http1_head *ret, const char **reterr);
int http1_parse_response(const char *data, size_t len, bool request_was_head,
                         struct http1_head *ret, const char **reterr);

/* Writes heads that http_message_set() made.  Overflow shows in out->overflow.  A body of unknown
 * length is announced as chunked; `chunks` false: as ending with the connection.  `close`: adds
 * "Connection: close". */
void http1_write_request(struct sb_buf *out, const struct http_head *head);
/* The same to a proxy that shall pass it on: with the whole URL ("http://", `authority`), and
 * `authorization` as Proxy-Authorization (NULL: none). */
void http1_write_proxy_request(struct sb_buf *out, const struct http_head *head,
                               const char *authority, const char *authorization);
void http1_write_response(struct sb_buf *out, const struct http_head *head, bool chunks,
                          bool close);
