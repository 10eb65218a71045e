/* SPDX-License-Identifier: Apache-2.0
 * A message head as both versions of HTTP mean it: what a codec reads, the policy judges, the
 * injector edits and another codec writes.
 *
 * A head only views its bytes.  A message owns them: it is what goes on, without the fields that
 * end at this proxy, and may hold a secret. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* SET: fields that edits may add. */
enum { HTTP_HEAD_MAX = 64 * 1024, HTTP_FIELDS_MAX = 128, HTTP_SET_MAX = 5 };

struct http_field {
    const char *name;
    size_t name_len;
    const char *value; /* without surrounding blanks */
    size_t value_len;
    bool secret; /* put there by us: no table of a compressor may learn it */
};

/* STREAM: the length is not known ahead (chunked, until close, DATA frames). */
enum http_body { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_STREAM };

struct http_head {
    const char *method; /* requests */
    size_t method_len;
    const char *scheme; /* may be empty: that of the connection */
    size_t scheme_len;
    const char *authority; /* host[:port] */
    size_t authority_len;
    const char *path; /* path and query; may lack its leading '/' ("http://h?q") */
    size_t path_len;
    const char *protocol; /* what the connection shall become (Upgrade, :protocol), or empty */
    size_t protocol_len;
    const char *reason; /* answers; may be empty */
    size_t reason_len;
    int status; /* answers; 0: this is a request */
    enum http_body body;
    uint64_t body_length;  /* when HTTP_BODY_LENGTH */
    bool accepts_trailers; /* TE: trailers */
    bool lower_case;       /* the names are, as HTTP/2 wants them */
    const struct http_field *fields;
    size_t nfields;
};

bool http_text_is(const char *s, size_t n, const char *want); /* any case */
bool http_field_is(const struct http_field *field, const char *name);
bool http_method_is(const struct http_head *head, const char *method);
/* The first field of that name (any case), or NULL. */
const struct http_field *http_find(const struct http_head *head, const char *name);
/* Does this comma-separated list value hold the token (any case)? */
bool http_list_has(const char *value, size_t value_len, const char *token, size_t token_len);
/* Does any field `name`, read as a list, hold the token? */
bool http_head_lists(const struct http_head *head, const char *name, const char *token,
                     size_t token_len);
/* RFC 9110 5.6.2 and 5.5. */
bool http_is_token(const char *s, size_t n);
bool http_is_value(const char *s, size_t n);
/* Is this a field that carries a credential (Authorization, X-Api-Key, ...)?  '_' counts as '-',
 * since CGI-like servers cannot tell them apart. */
bool http_is_credential(const char *name, size_t name_len);
/* Content-Length, Transfer-Encoding or Host, also written with underscores. */
bool http_is_framing(const char *name, size_t name_len);
/* Fields that decide about framing, routing or identity have no business behind a body, where no
 * filter of ours and an unknown one of the server's would read them. */
bool http_trailer_allowed(const char *name, size_t name_len);
/* May the request be sent again when nobody knows what became of it?  (RFC 9110 9.2.2) */
bool http_is_idempotent(const struct http_head *head);

/* What a filter decides about one field; with HTTP_REWRITE it has appended the new value to `out`.
 */
enum http_verdict { HTTP_KEEP, HTTP_DROP, HTTP_REWRITE };

/* Changes to a head on its way.  Strings are borrowed until http_message_set(). */
struct http_edits {
    const struct http_field *set; /* added, and every field of such a name is dropped */
    size_t nset;
    const char *target; /* NULL: the head's own path */
    size_t target_len;
    bool reframed; /* the body will have another length, not known yet */
    /* NULL, or asked about each end-to-end field except framing and Host. */
    enum http_verdict (*filter)(void *arg, const struct http_field *field, struct sb_buf *out);
    void *filter_arg;
};

struct http_message {
    struct http_head head; /* views `text` and `fields` */
    struct sb_buf text;
    struct http_field *fields;
    size_t cap;
};

/* Copies the head as it goes on: hop-by-hop fields (RFC 9110 7.6.1), Host and Transfer-Encoding are
 * gone, for the next codec writes its own.  `edits` may be NULL.  False when it grew too large. The
 * message must be zeroed or set before; its memory is used again. */
bool http_message_set(struct http_message *message, const struct http_head *head,
                      const struct http_edits *edits);
/* Wipes what it held; the memory stays for the next one. */
void http_message_clear(struct http_message *message);
void http_message_done(struct http_message *message);
