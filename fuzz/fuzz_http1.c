/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as request and response.  What was accepted and written again must be
 * accepted again with the same framing: otherwise the proxy and the server would disagree about a
 * message. */
#include <assert.h>
#include <string.h>

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
    return 0;
}
