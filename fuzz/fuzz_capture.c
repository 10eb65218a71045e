/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the answer of a token endpoint: once tokens were taken, no text in what goes on to
 * the sandbox holds one. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/msg.h"
#include "proxy/capture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool text_holds(const char *text, const json_t *token)
{
    return json_string_length(token) && strstr(text, json_string_value(token));
}

static void check_clean(json_t *value, const json_t *token)
{
    const char *key;
    json_t *child;
    size_t i;
    if (json_is_string(value)) {
        assert(!text_holds(json_string_value(value), token));
    }
    json_array_foreach(value, i, child)
    {
        check_clean(child, token);
    }
    json_object_foreach(value, key, child)
    {
        assert(!text_holds(key, token));
        check_clean(child, token);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *rule =
        json_pack("{s:{s:s,s:s}}", "sentinels", "access", "sentinel-a", "refresh", "sentinel-r");
    struct capture *capture = capture_new(rule, "service", "kit");
    struct sb_buf body;
    json_t *tokens = NULL;
    sb_buf_init(&body, 4 * size + 1024);
    sb_buf_append(&body, data, size);
    int r = capture_answer(capture, &body, &tokens);
    assert(!tokens || r == 0);
    if (tokens) {
        json_t *answer = json_loadb(body.data, body.len, 0, NULL);
        assert(json_is_object(answer));
        check_clean(answer, json_object_get(tokens, "access"));
        check_clean(answer, json_object_get(tokens, "refresh"));
        json_decref(answer);
    } else if (r == 0) {
        assert(body.len == size && memcmp(body.data, data, size) == 0);
    }
    json_decref(tokens);
    json_decref(rule);
    sb_buf_done(&body);
    capture_unref(capture);
    return 0;
}
