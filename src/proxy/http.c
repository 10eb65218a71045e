/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/http.h"

#include <string.h>
#include <strings.h>

#include "base/err.h"

/* ---- Words ---- */

bool http_text_is(const char *s, size_t n, const char *want)
{
    return n == strlen(want) && strncasecmp(s, want, n) == 0;
}

bool http_field_is(const struct http_field *field, const char *name)
{
    return http_text_is(field->name, field->name_len, name);
}

bool http_method_is(const struct http_head *head, const char *method)
{
    return head->method_len == strlen(method) &&
           memcmp(head->method, method, head->method_len) == 0;
}

const struct http_field *http_find(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->nfields; i++) {
        if (http_field_is(&head->fields[i], name)) {
            return &head->fields[i];
        }
    }
    return NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool http_list_has(const char *value, size_t value_len, const char *token, size_t token_len)
{
    const char *end = value + value_len;
    for (const char *p = value; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma ? comma : end;
        const char *last = stop;
        while (p < last && is_blank(*p)) {
            p++;
        }
        while (last > p && is_blank(last[-1])) {
            last--;
        }
        if ((size_t)(last - p) == token_len && strncasecmp(p, token, token_len) == 0) {
            return true;
        }
        p = comma ? comma + 1 : end;
    }
    return false;
}

bool http_head_lists(const struct http_head *head, const char *name, const char *token,
                     size_t token_len)
{
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        if (http_field_is(field, name) &&
            http_list_has(field->value, field->value_len, token, token_len)) {
            return true;
        }
    }
    return false;
}

bool http_is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                  (c && strchr("!#$%&'*+-.^_`|~", c));
        if (!ok) {
            return false;
        }
    }
    return n > 0;
}

bool http_is_value(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c != '\t' && (c < 0x20 || c == 0x7f)) {
            return false;
        }
    }
    return true;
}

/* ---- Kinds of fields ---- */

/* Equal when '_' counts as '-' and case does not count; `want` is in lower case. */
static bool folded_is(const char *name, size_t n, const char *want)
{
    if (n != strlen(want)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (c >= 'A' && c <= 'Z') {
            c = (char)(c + ('a' - 'A'));
        }
        if ((c == '_' ? '-' : c) != want[i]) {
            return false;
        }
    }
    return true;
}

static bool folded_in(const char *name, size_t n, const char *const *list)
{
    for (; *list; list++) {
        if (folded_is(name, n, *list)) {
            return true;
        }
    }
    return false;
}

bool http_is_credential(const char *name, size_t name_len)
{
    static const char *const names[] = {
        /* in general use */
        "authorization",
        "proxy-authorization",
        "x-authorization",
        "authentication",
        "x-api-key",
        "api-key",
        "apikey",
        "x-apikey",
        "x-api-token",
        "x-auth-token",
        "x-access-token",
        "x-auth-key",
        /* of well-known services */
        "x-goog-api-key",
        "private-token",
        "job-token",
        "deploy-token",
        "x-amz-security-token",
        "ocp-apim-subscription-key",
        "dd-api-key",
        "dd-application-key",
        "x-vault-token",
        "x-consul-token",
        "x-figma-token",
        "x-shopify-access-token",
        "x-jfrog-art-api",
        "x-nuget-apikey",
        "circle-token",
        NULL,
    };
    return folded_in(name, name_len, names);
}

bool http_is_framing(const char *name, size_t name_len)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "host", NULL};
    return folded_in(name, name_len, names);
}

bool http_trailer_allowed(const char *name, size_t name_len)
{
    static const char *const refused[] = {
        "connection",    "te",           "trailer",    "upgrade",
        "expect",        "cookie",       "set-cookie", "content-encoding",
        "content-range", "content-type", NULL,
    };
    return !http_is_framing(name, name_len) && !http_is_credential(name, name_len) &&
           !folded_in(name, name_len, refused);
}

bool http_is_idempotent(const struct http_head *head)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"};
    for (size_t i = 0; i < SB_ARRAY_LEN(methods); i++) {
        if (http_method_is(head, methods[i])) {
            return true;
        }
    }
    return false;
}

/* ---- A head on its way ---- */

enum { USUAL_BYTES = 1000 }; /* of a head; for one allocation instead of several */

/* Fields that end at this proxy, apart from those that Connection names. */
static bool is_hop_by_hop(const struct http_field *field)
{
    static const char *const names[] = {
        "connection", "proxy-connection", "keep-alive",     "proxy-authorization",
        "te",         "upgrade",          "http2-settings", "proxy-authenticate",
        NULL,
    };
    return folded_in(field->name, field->name_len, names);
}

static bool stays_here(const struct http_head *head, const struct http_field *field,
                       bool has_connection)
{
    return is_hop_by_hop(field) || http_field_is(field, "host") ||
           http_field_is(field, "transfer-encoding") ||
           (has_connection && !http_is_framing(field->name, field->name_len) &&
            http_head_lists(head, "connection", field->name, field->name_len));
}

/* Appends name and value; the views are made when the text has stopped moving. */
static void put_field(struct http_message *message, const char *name, size_t name_len,
                      const char *value, size_t value_len)
{
    sb_buf_append(&message->text, name, name_len);
    sb_buf_append(&message->text, value, value_len);
    message->fields[message->head.nfields++] =
        (struct http_field){.name_len = name_len, .value_len = value_len};
}

static bool is_replaced(const struct http_edits *edits, const struct http_field *field)
{
    for (size_t i = 0; edits && i < edits->nset; i++) {
        if (http_text_is(field->name, field->name_len, edits->set[i].name)) {
            return true;
        }
    }
    return false;
}

static void put_edited(struct http_message *message, const struct http_field *field,
                       const struct http_edits *edits)
{
    struct sb_buf *text = &message->text;
    size_t mark = text->len;
    enum http_verdict verdict = HTTP_KEEP;
    if (is_replaced(edits, field) ||
        (edits && edits->reframed && http_field_is(field, "content-length"))) {
        return;
    }
    if (edits && edits->filter && !http_is_framing(field->name, field->name_len)) {
        sb_buf_append(text, field->name, field->name_len);
        verdict = edits->filter(edits->filter_arg, field, text);
    }
    if (verdict == HTTP_REWRITE) {
        message->fields[message->head.nfields++] =
            (struct http_field){.name_len = field->name_len,
                                .value_len = text->len - mark - field->name_len,
                                .secret = true};
        return;
    }
    text->len = mark; /* the name was written ahead of the verdict */
    if (verdict == HTTP_KEEP) {
        put_field(message, field->name, field->name_len, field->value, field->value_len);
    }
}

/* Moves one view onto the text; the pieces lie there one behind the other. */
static void settle(const char **view, size_t len, const char **at)
{
    *view = *at;
    *at += len;
}

static void make_views(struct http_message *message)
{
    struct http_head *head = &message->head;
    const char *at = message->text.data;
    settle(&head->method, head->method_len, &at);
    settle(&head->scheme, head->scheme_len, &at);
    settle(&head->authority, head->authority_len, &at);
    settle(&head->path, head->path_len, &at);
    settle(&head->protocol, head->protocol_len, &at);
    settle(&head->reason, head->reason_len, &at);
    for (size_t i = 0; i < head->nfields; i++) {
        settle(&message->fields[i].name, message->fields[i].name_len, &at);
        settle(&message->fields[i].value, message->fields[i].value_len, &at);
    }
    head->fields = message->fields;
}

static void put_start(struct http_message *message, const struct http_edits *edits)
{
    struct http_head *head = &message->head;
    struct sb_buf *text = &message->text;
    const char *path = edits && edits->target ? edits->target : head->path;
    head->path_len = edits && edits->target ? edits->target_len : head->path_len;
    bool rooted = !head->path_len || path[0] == '/' || path[0] == '*';
    sb_buf_append(text, head->method, head->method_len);
    sb_buf_append(text, head->scheme, head->scheme_len);
    sb_buf_append(text, head->authority, head->authority_len);
    sb_buf_puts(text, rooted ? "" : "/");
    sb_buf_append(text, path, head->path_len);
    head->path_len += !rooted;
    sb_buf_append(text, head->protocol, head->protocol_len);
    sb_buf_append(text, head->reason, head->reason_len);
}

bool http_message_set(struct http_message *message, const struct http_head *head,
                      const struct http_edits *edits)
{
    http_message_clear(message);
    message->text.max = (size_t)3 * HTTP_HEAD_MAX;
    sb_buf_room(&message->text, USUAL_BYTES);
    size_t nset = edits ? edits->nset : 0;
    if (message->cap < head->nfields + nset) {
        message->cap = head->nfields + nset + 8;
        message->fields = sb_xrealloc(message->fields, message->cap, sizeof(*message->fields));
    }
    message->head = *head;
    message->head.nfields = 0;
    if (edits && edits->reframed && head->body != HTTP_BODY_NONE) {
        message->head.body = HTTP_BODY_STREAM;
    }
    put_start(message, edits);
    bool has_connection = http_find(head, "connection") != NULL;
    message->head.accepts_trailers = http_head_lists(head, "te", "trailers", 8);
    for (size_t i = 0; i < head->nfields; i++) {
        if (!stays_here(head, &head->fields[i], has_connection)) {
            put_edited(message, &head->fields[i], edits);
        }
    }
    for (size_t i = 0; i < nset; i++) {
        const struct http_field *field = &edits->set[i];
        put_field(message, field->name, field->name_len, field->value, field->value_len);
        message->fields[message->head.nfields - 1].secret = true;
    }
    if (message->text.overflow) {
        return false;
    }
    make_views(message);
    return true;
}

void http_message_clear(struct http_message *message)
{
    if (message->text.data) {
        explicit_bzero(message->text.data, message->text.len);
    }
    sb_buf_clear(&message->text);
    message->head = (struct http_head){0};
}

void http_message_done(struct http_message *message)
{
    sb_buf_wipe(&message->text);
    free(message->fields);
    *message = (struct http_message){0};
}
