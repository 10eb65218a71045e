/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/capture.h"

#include <string.h>

#include "base/err.h"
#include "base/msg.h"
#include "base/wipe.h"

struct capture {
    unsigned refs;
    char *service, *kit;
    char *access, *refresh;                             /* the sentinels */
    char *access_field, *refresh_field, *expires_field; /* of the answer */
};

static char *text_of(const json_t *object, const char *group, const char *key, const char *fallback)
{
    const char *text = sb_json_str(json_object_get(object, group), key);
    text = text && *text ? text : fallback;
    return text ? sb_xstrdup(text) : NULL;
}

struct capture *capture_new(const json_t *object, const char *service, const char *kit)
{
    struct capture *capture = sb_xcalloc(1, sizeof(*capture));
    capture->refs = 1;
    capture->service = sb_xstrdup(service);
    capture->kit = sb_xstrdup(kit);
    capture->access = text_of(object, "sentinels", "access", NULL);
    capture->refresh = text_of(object, "sentinels", "refresh", NULL);
    capture->access_field = text_of(object, "fields", "access", "access_token");
    capture->refresh_field = text_of(object, "fields", "refresh", "refresh_token");
    capture->expires_field = text_of(object, "fields", "expires_in", "expires_in");
    if (!capture->access || !capture->refresh) {
        capture_unref(capture);
        return NULL;
    }
    return capture;
}

struct capture *capture_ref(struct capture *capture)
{
    capture->refs++;
    return capture;
}

void capture_unref(struct capture *capture)
{
    if (!capture || --capture->refs) {
        return;
    }
    free(capture->service);
    free(capture->kit);
    free(capture->access);
    free(capture->refresh);
    free(capture->access_field);
    free(capture->refresh_field);
    free(capture->expires_field);
    free(capture);
}

/* A token is a text.  What stands in its place and is none may hold one that is not seen. */
static bool is_readable(const json_t *answer, const char *field)
{
    const json_t *token = json_object_get(answer, field);
    return !token || json_is_string(token) || json_is_null(token);
}

/* Moves one token from the answer into the message. */
static void move_token(json_t *answer, const char *field, const char *sentinel, json_t *tokens,
                       const char *name)
{
    json_t *token = json_object_get(answer, field);
    if (json_string_length(token) && strcmp(json_string_value(token), sentinel) != 0) {
        json_object_set(tokens, name, token);
        json_object_set_new(answer, field, json_string(sentinel));
    }
}

/* Servers repeat a token under other names as well; in JSON it may need escapes. */
static bool holds(const struct sb_buf *body, const json_t *token)
{
    if (!json_string_length(token) || !body->len) {
        return false;
    }
    char *text = json_dumps(token, JSON_ENCODE_ANY); /* in quotes */
    bool found = !text || memmem(body->data, body->len, text + 1, strlen(text) - 2);
    sb_free_wiped(text);
    return found;
}

static int put_answer(const json_t *answer, const json_t *tokens, struct sb_buf *body)
{
    char *text = json_dumps(answer, JSON_COMPACT);
    size_t max = body->max;
    sb_buf_wipe(body);
    sb_buf_init(body, max);
    sb_buf_puts(body, text ? text : "");
    sb_free_wiped(text);
    bool clean = !body->overflow && body->len && !holds(body, json_object_get(tokens, "access")) &&
                 !holds(body, json_object_get(tokens, "refresh"));
    if (!clean) {
        sb_buf_wipe(body);
    }
    return clean ? 0 : -1;
}

int capture_answer(const struct capture *capture, struct sb_buf *body, json_t **ret_tokens)
{
    SB_CLEANUP(json) json_t *answer = json_loadb(body->len ? body->data : "", body->len, 0, NULL);
    if (!json_is_object(answer) || !is_readable(answer, capture->access_field) ||
        !is_readable(answer, capture->refresh_field)) {
        return -1;
    }
    SB_CLEANUP(json)
    json_t *tokens = json_pack("{s:s, s:s, s:s}", "op", "tokens", "service", capture->service,
                               "kit", capture->kit);
    move_token(answer, capture->access_field, capture->access, tokens, "access");
    move_token(answer, capture->refresh_field, capture->refresh, tokens, "refresh");
    if (json_object_size(tokens) == 3) {
        return 0; /* an error, or a question: nothing to keep */
    }
    const json_t *expires = json_object_get(answer, capture->expires_field);
    if (json_is_integer(expires)) {
        json_object_set_new(tokens, "expires_in", json_integer(json_integer_value(expires)));
    }
    if (put_answer(answer, tokens, body) < 0) {
        return -1;
    }
    *ret_tokens = sb_steal(&tokens);
    return 0;
}
