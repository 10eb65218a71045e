/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as request, response and chunked body.  What was accepted and written again must be
 * accepted again with the same framing: otherwise the proxy and the server would disagree about a
 * message. */
#include <assert.h>

#include "proxy/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct http1_head *head)
{
    struct sb_buf out;
    struct http1_head again;
    const char *error = NULL;
    sb_buf_init(&out, 4 * HTTP1_HEAD_MAX);
    http1_format_head(&out, head, NULL, false);
    if (!out.overflow && out.len < HTTP1_HEAD_MAX) {
        int r = head->is_response ? http1_parse_response(out.data, out.len, false, &again, &error)
                                  : http1_parse_request(out.data, out.len, &again, &error);
        /* A head that was full may have got a Host or Connection field more than fits. */
        assert(r == 1 || head->nfields + 3 > HTTP1_FIELDS_MAX);
        assert(r != 1 || (again.head_len == out.len && again.body == head->body &&
                          again.body_length == head->body_length));
    }
    sb_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http1_head head;
    const char *text = (const char *)data, *error = NULL;
    if (http1_parse_request(text, size, &head, &error) == 1 && !http1_method_is(&head, "CONNECT")) {
        check_again(&head);
    }
    if (http1_parse_response(text, size, false, &head, &error) == 1) {
        check_again(&head);
    }
    struct http1_chunked whole = {0}, pieces = {0};
    size_t used = 0, at = 0, step;
    int r = http1_chunked_scan(&whole, text, size, &used), bytewise = 0;
    while (at < size && bytewise == 0) {
        bytewise = http1_chunked_scan(&pieces, text + at, 1, &step);
        at += step;
    }
    assert(r == bytewise && used == at);
    return 0;
}
