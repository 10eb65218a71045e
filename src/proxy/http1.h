/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1.x message heads and bodies, read strictly by RFC 9112.
 *
 * The parsers are zero-copy: every view points into the caller's bytes and lives as long as they
 * do. They allocate nothing, know no sockets, and never repair a message: what two readers could
 * understand differently is refused, because that is how requests are smuggled. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { HTTP1_HEAD_MAX = 64 * 1024, HTTP1_FIELDS_MAX = 128 };

struct http1_field {
    const char *name;
    size_t name_len;
    const char *value; /* without surrounding blanks */
    size_t value_len;
};

enum http1_body { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED, HTTP1_BODY_UNTIL_CLOSE };

struct http1_head {
    bool is_response;
    const char *method; /* requests */
    size_t method_len;
    const char *target;
    size_t target_len;
    const char *reason; /* responses; may be empty */
    size_t reason_len;
    int minor_version; /* 0 or 1 */
    int status;        /* responses */
    struct http1_field fields[HTTP1_FIELDS_MAX];
    size_t nfields;
    enum http1_body body;
    uint64_t body_length; /* when HTTP1_BODY_LENGTH */
    bool keep_alive;
    bool
        upgrade; /* Connection names upgrade and an Upgrade field is there (or the answer is 101) */
    bool expect_continue;
    size_t head_len; /* bytes of the head: the body starts there */
};

/* 1 complete, 0 more bytes are needed, -1 refused (*reterr: static text for the 400 answer).
 * `ret` is undefined unless 1 is returned. */
int http1_parse_request(const char *data, size_t len, struct http1_head *ret, const char **reterr);
int http1_parse_response(const char *data, size_t len, bool request_was_head,
                         struct http1_head *ret, const char **reterr);

/* The first field of that name (any case), or NULL. */
const struct http1_field *http1_find(const struct http1_head *head, const char *name);
bool http1_field_is(const struct http1_field *field, const char *name);
bool http1_method_is(const struct http1_head *head, const char *method);
/* Does this comma-separated list value hold the token (any case)? */
bool http1_list_has(const char *value, size_t value_len, const char *token, size_t token_len);

/* Is this a field that carries a credential (Authorization, X-Api-Key, ...)?  '_' counts as '-',
 * since CGI-like servers cannot tell them apart. */
bool http1_is_credential(const char *name, size_t name_len);

/* Where a request wants to go.  In absolute form the target's authority decides and Host is
 * replaced by it (RFC 9112 3.2.2); for CONNECT the target is the authority; else Host is (empty
 * when a HTTP/1.0 request has none).  Userinfo is refused; otherwise the authority is not validated
 * here. `path` may lack its leading '/' ("http://h?q"). */
struct http1_target {
    bool absolute; /* absolute-form */
    bool connect;
    const char *scheme; /* "http", "https", or empty unless absolute */
    size_t scheme_len;
    const char *authority; /* host[:port] */
    size_t authority_len;
    const char *path; /* path and query */
    size_t path_len;
};
/* 0, or -1 and *reterr (may be NULL).  Cannot fail for a head that http1_parse_request() accepted.
 */
int http1_target(const struct http1_head *head, struct http1_target *ret, const char **reterr);

/* Validates a chunked body and finds its end; the bytes are forwarded as they are.
 * Zero-initialise, then feed the bytes in any pieces. */
struct http1_chunked {
    int state;
    uint64_t remaining; /* of the present chunk */
    size_t extra;       /* bytes of the present size line, or of the trailer section */
    char name[64];      /* of the present trailer field */
    size_t name_len;
};
/* 1 done, 0 more bytes are needed, -1 malformed.  *ret_used is how many of `len` bytes belong to
 * the body; on -1 the bytes before it were valid. */
int http1_chunked_scan(struct http1_chunked *scan, const char *data, size_t len, size_t *ret_used);

/* What a filter decides about one field; with HTTP1_REWRITE it has appended the new value to `out`.
 */
enum http1_verdict { HTTP1_KEEP, HTTP1_DROP, HTTP1_REWRITE };

/* Changes to a head while it is written again.  Strings are borrowed until http1_format_head(). */
struct http1_edits {
    const char *set_name;  /* NULL, or: every field of this name is dropped and ... */
    const char *set_value; /* ... this one is added */
    size_t set_value_len;
    const char *target; /* NULL: the head's own, in origin form */
    size_t target_len;
    /* NULL, or asked about each end-to-end field except framing and Host. */
    enum http1_verdict (*filter)(void *arg, const struct http1_field *field, struct sb_buf *out);
    void *filter_arg;
};

/* Writes the head again: hop-by-hop fields are gone (RFC 9110 7.6.1), the request target is in
 * origin form and Host is the target's authority.  Framing fields stay, even when Connection names
 * them. `edits` may be NULL. `close`: adds "Connection: close".  Not for CONNECT, which is never
 * passed on.  Overflow shows in out->overflow.
 */
void http1_format_head(struct sb_buf *out, const struct http1_head *head,
                       const struct http1_edits *edits, bool close);
