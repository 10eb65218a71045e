/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as what a client of HTTP/2 sends.  A request that was accepted, written as HTTP/1.1,
 * must be exactly one request to the same place, or be refused there: otherwise a stream could
 * smuggle a second one.  Trailers likewise end the chunked body that they follow. */
#include <assert.h>
#include <string.h>

#include "proxy/chunked.h"
#include "proxy/h2.h"
#include "proxy/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct exchange stream; /* of every request */

void exchange_wake_front(struct exchange *x)
{
    assert(x == &stream);
}

void exchange_wake_back(struct exchange *x)
{
    assert(x == &stream);
}

static void check_request(const struct http_head *head)
{
    static struct http1_head again;
    struct http_message message = {0};
    struct sb_buf out;
    const char *error = NULL;
    sb_buf_init(&out, 4 * HTTP_HEAD_MAX);
    if (!http_method_is(head, "CONNECT") && http_message_set(&message, head, NULL)) {
        http1_write_request(&out, &message.head);
        int r =
            out.len < HTTP_HEAD_MAX ? http1_parse_request(out.data, out.len, &again, &error) : -1;
        assert(r != 0);
        assert(r < 0 || (again.head_len == out.len && !again.connect && !again.absolute &&
                         again.http.path_len == message.head.path_len &&
                         again.http.authority_len == message.head.authority_len));
    }
    http_message_done(&message);
    sb_buf_done(&out);
}

static void check_trailers(const struct sb_buf *trailers)
{
    struct chunked chunked = {0};
    struct sb_buf body, data, lines;
    size_t used;
    sb_buf_init(&body, 4 * HTTP_HEAD_MAX);
    sb_buf_init(&data, 4 * HTTP_HEAD_MAX);
    sb_buf_init(&lines, 4 * HTTP_HEAD_MAX);
    chunked_write_end(&body, trailers->data, trailers->len);
    int r = chunked_read(&chunked, body.data, body.len, &used, &data, &lines);
    assert(r < 0 || (r == 1 && used == body.len && !data.len));
    sb_buf_done(&body);
    sb_buf_done(&data);
    sb_buf_done(&lines);
}

static void on_head(struct h2 *h2, struct exchange *x, int32_t id, bool ends)
{
    struct http_head head;
    if (x) {
        if (h2_trailers(h2, &x->up.trailers)) {
            check_trailers(&x->up.trailers);
        }
        return;
    }
    if (!h2_head(h2, &head, ends)) {
        check_request(&head);
    }
    nghttp2_session_set_stream_user_data(h2->session, id, &stream);
}

static void on_data(struct h2 *h2, struct exchange *x)
{
    (void)h2;
    sb_buf_clear(&x->up.data);
}

static void on_invalid(struct h2 *h2, const char *why)
{
    assert(h2->server && why);
}

static void on_closed(struct h2 *h2, struct exchange *x, uint32_t error)
{
    (void)h2, (void)x, (void)error;
}

static void nothing(void *arg)
{
    (void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct h2_events events = {
        .head = on_head, .data = on_data, .closed = on_closed, .invalid = on_invalid};
    static struct sb_loop *loop;
    if (!loop && sb_loop_new(&loop, NULL) < 0) {
        return 0;
    }
    struct wire wire;
    wire_open(&wire, loop, -1, nothing, nothing, NULL);
    wire.readable = false;
    struct h2 *h2 = h2_new(&wire, true, NULL, &events);
    sb_buf_init(&stream.up.data, HTTP_HEAD_MAX);
    sb_buf_init(&stream.up.trailers, HTTP_HEAD_MAX);
    sb_buf_append(&wire.in, data, size);
    if (h2_read(h2) == 0) {
        nghttp2_session_send(h2->session);
    }
    h2_free(h2);
    wire_close(&wire);
    sb_buf_done(&stream.up.data);
    sb_buf_done(&stream.up.trailers);
    return 0;
}
