/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as request, response and chunked body.  What was accepted and written again must be
 * accepted again with the same framing: otherwise the proxy and the server would disagree about a
 * message. */
#include <assert.h>
#include <string.h>

#include "proxy/chunked.h"
#include "proxy/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct http1_head *head)
{
    static struct http1_head again;
    struct http_message message = {0};
    struct sb_buf out;
    const char *error = NULL;
    bool answer = head->http.status != 0;
    sb_buf_init(&out, 4 * HTTP_HEAD_MAX);
    /* A request without a host (HTTP/1.0) is refused before it is written. */
    bool fits =
        (answer || head->http.authority_len) && http_message_set(&message, &head->http, NULL);
    if (fits && answer) {
        http1_write_response(&out, &message.head, true, false);
    } else if (fits) {
        http1_write_request(&out, &message.head);
    }
    if (fits && !out.overflow && out.len < HTTP_HEAD_MAX) {
        int r = answer ? http1_parse_response(out.data, out.len, false, &again, &error)
                       : http1_parse_request(out.data, out.len, &again, &error);
        /* A head that was full may have got a Host or Connection field more than fits. */
        assert(r == 1 || head->http.nfields + 4 > HTTP_FIELDS_MAX);
        assert(r != 1 ||
               (again.head_len == out.len && again.http.body_length == head->http.body_length &&
                (again.body == head->body || head->body == HTTP1_BODY_UNTIL_CLOSE)));
    }
    http_message_done(&message);
    sb_buf_done(&out);
}

/* Any cut of the bytes must decode to the same body, with the same end. */
static void check_chunks(const char *text, size_t size)
{
    struct chunked whole = {0}, pieces = {0};
    struct sb_buf data, trailers, data2, trailers2;
    sb_buf_init(&data, size + 1);
    sb_buf_init(&trailers, size + 1);
    sb_buf_init(&data2, size + 1);
    sb_buf_init(&trailers2, size + 1);
    size_t used = 0, at = 0, step;
    int r = chunked_read(&whole, text, size, &used, &data, &trailers), bytewise = 0;
    while (at < size && bytewise == 0) {
        bytewise = chunked_read(&pieces, text + at, 1, &step, &data2, &trailers2);
        at += step;
    }
    assert(r == bytewise && used == at && data.len == data2.len && trailers.len == trailers2.len);
    assert(!data.len || memcmp(data.data, data2.data, data.len) == 0);
    sb_buf_done(&data);
    sb_buf_done(&trailers);
    sb_buf_done(&data2);
    sb_buf_done(&trailers2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http1_head head;
    const char *text = (const char *)data, *error = NULL;
    if (http1_parse_request(text, size, &head, &error) == 1 && !head.connect) {
        check_again(&head);
    }
    if (http1_parse_response(text, size, false, &head, &error) == 1) {
        check_again(&head);
    }
    check_chunks(text, size);
    return 0;
}
