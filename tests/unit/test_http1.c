/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1 heads, chunked bodies, and heads written again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/chunked.h"
#include "proxy/http1.h"

static struct http1_head head;

static int parse(const char *text)
{
    const char *error = NULL;
    int r = http1_parse_request(text, strlen(text), &head, &error);
    assert_true((r < 0) == (error != NULL));
    return r;
}

static void test_get(void **state)
{
    (void)state;
    const char *text =
        "GET /a?b HTTP/1.1\r\nHost: x.example\r\nAccept:  */* \r\n\r\nGET /2 HTTP/1.1";
    assert_int_equal(parse(text), 1);
    assert_int_equal(head.head_len, strstr(text, "GET /2") - text);
    assert_int_equal(head.body, HTTP1_BODY_NONE);
    assert_true(head.keep_alive);
    const struct http_field *accept = http_find(&head.http, "aCCEPT");
    assert_non_null(accept);
    assert_int_equal(accept->value_len, 3);
    assert_memory_equal(head.http.authority, "x.example", head.http.authority_len);
    assert_int_equal(head.http.path_len, 4);
    for (size_t n = 0; n < head.head_len; n++) {
        struct http1_head part;
        const char *error;
        assert_int_equal(http1_parse_request(text, n, &part, &error), 0);
    }
}

static void test_pipelined(void **state)
{
    (void)state;
    const char *text = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
                       "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_int_equal(parse(text), 1);
    assert_int_equal(head.body, HTTP1_BODY_LENGTH);
    assert_int_equal(head.http.body_length, 2);
    assert_int_equal(parse(text + head.head_len + 2), 1);
    assert_memory_equal(http_find(&head.http, "host")->value, "b", 1);
    assert_int_equal(parse("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 1);
}

static void test_refused(void **state)
{
    (void)state;
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
    static const char *const bad[] = {
        POST "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        POST "Transfer-Encoding: xchunked\r\n\r\n",
        POST "Transfer-Encoding: chunked, identity\r\n\r\n",
        POST "Transfer-Encoding: gzip, chunked\r\n\r\n",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        POST "Transfer-Encoding: identity\r\n\r\n",
        POST "Transfer-Encoding:\x0b"
             "chunked\r\n\r\n",
        POST "Transfer_Encoding: chunked\r\n\r\n",
        POST "Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
        POST "Content-Length: 4, 4\r\n\r\n",
        POST "Content-Length: +5\r\n\r\n",
        POST "Content-Length: -5\r\n\r\n",
        POST "Content-Length: 0x5\r\n\r\n",
        POST "Content-Length: 5 5\r\n\r\n",
        POST "Content-Length:\r\n\r\n",
        POST "Content-Length: 18446744073709551617\r\n\r\n",
        POST "X: a\r\n b\r\n\r\n",
        POST "X : a\r\n\r\n",
        POST "X: a\nY: b\r\n\r\n",
        POST "X: a\rY: b\r\n\r\n",
        POST "X: a\x01\r\n\r\n",
        POST "X: \x7f\r\n\r\n",
        POST ": a\r\n\r\n",
        POST "X\r\n\r\n",
        POST "Host: b\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "CONNECT a:443/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(bad); i++) {
        if (parse(bad[i]) != -1) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    const char *error = NULL;
    const char nul[] = "GET / HTTP/1.1\r\nHost: a\0.b\r\n\r\n";
    assert_int_equal(http1_parse_request(nul, sizeof(nul) - 1, &head, &error), -1);
}

static void test_limits(void **state)
{
    (void)state;
    struct sb_buf buf;
    const char *error = NULL;
    sb_buf_init(&buf, 1 << 20);
    sb_buf_puts(&buf, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 1; i < HTTP_FIELDS_MAX; i++) {
        sb_buf_puts(&buf, "X: y\r\n");
    }
    size_t full = buf.len;
    sb_buf_puts(&buf, "\r\n");
    assert_int_equal(http1_parse_request(buf.data, buf.len, &head, &error), 1);
    buf.len = full;
    sb_buf_puts(&buf, "X: y\r\n\r\n");
    assert_int_equal(http1_parse_request(buf.data, buf.len, &head, &error), -1);
    sb_buf_clear(&buf);
    sb_buf_puts(&buf, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    while (buf.len < HTTP_HEAD_MAX) {
        sb_buf_puts(&buf, "x");
    }
    assert_int_equal(http1_parse_request(buf.data, buf.len - 1, &head, &error), 0);
    assert_int_equal(http1_parse_request(buf.data, buf.len, &head, &error), -1);
    sb_buf_done(&buf);
}

static int answer(const char *text, bool request_was_head)
{
    const char *error = NULL;
    return http1_parse_response(text, strlen(text), request_was_head, &head, &error);
}

static void test_responses(void **state)
{
    (void)state;
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), 1);
    assert_int_equal(head.body, HTTP1_BODY_LENGTH);
    assert_int_equal(answer("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", true), 1);
    assert_int_equal(head.body, HTTP1_BODY_NONE);
    assert_int_equal(answer("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", false), 1);
    assert_int_equal(head.body, HTTP1_BODY_NONE);
    assert_int_equal(answer("HTTP/1.0 200 OK\r\n\r\n", false), 1);
    assert_int_equal(head.body, HTTP1_BODY_UNTIL_CLOSE);
    assert_false(head.keep_alive);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false), 1);
    assert_int_equal(head.body, HTTP1_BODY_NONE);
    assert_int_equal(answer("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", false), 1);
    assert_int_equal(head.http.protocol_len, 9);
    assert_int_equal(answer("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", false), -1);
    assert_int_equal(answer("HTTP/1.1 2000 x\r\n\r\n", false), -1);
    assert_int_equal(answer("HTTP/1.1 099 x\r\n\r\n", false), -1);
    assert_int_equal(answer("ICY 200 OK\r\n\r\n", false), -1);
    assert_int_equal(
        answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        -1);
}

static struct sb_buf data, trailers;

static int scan(const char *text, size_t *ret_used)
{
    struct chunked chunked = {0};
    sb_buf_clear(&data);
    sb_buf_clear(&trailers);
    return chunked_read(&chunked, text, strlen(text), ret_used, &data, &trailers);
}

static void test_chunked(void **state)
{
    (void)state;
    size_t used;
    sb_buf_init(&data, 1 << 16);
    sb_buf_init(&trailers, 1 << 16);
    const char *good = "4;a=\"b\"\r\nWiki\r\n00a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
    assert_int_equal(scan(good, &used), 1);
    assert_int_equal(used, strlen(good));
    assert_string_equal(data.data, "Wiki0123456789");
    assert_string_equal(trailers.data, "X-Sum: 1\r\n");
    struct sb_buf again;
    sb_buf_init(&again, 1 << 16);
    chunked_write(&again, data.data, data.len);
    chunked_write_end(&again, trailers.data, trailers.len);
    assert_string_equal(again.data, "e\r\nWiki0123456789\r\n0\r\nX-Sum: 1\r\n\r\n");
    sb_buf_done(&again);
    assert_int_equal(scan("0\r\n\r\nGET / HTTP/1.1", &used), 1);
    assert_int_equal(used, 5);
    assert_int_equal(scan("5\r\nhel", &used), 0);
    static const char *const bad[] = {
        "\r\n",
        "g\r\n",
        "+5\r\n",
        "0x5\r\n",
        "5 \r\n",
        "5\nhello",
        "5\r\nhelloX",
        "5\r\nhello\n",
        "-1\r\n",
        ";a\r\n",
        "5;a\x01\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nX y: 1",
        "0\r\n: 1\r\n",
        "0\r\nX: \n",
        "0\r\n\n",
        "0\r\n X: 1",
        "0\r\nHost: b\r",
        "0\r\nAuthorization: x\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nX_Api_Key: 5\r\n\r\n",
        "0\r\nCookie: a=b\r\n\r\n",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(bad); i++) {
        if (scan(bad[i], &used) != -1) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    struct chunked endless = {0};
    assert_int_equal(chunked_read(&endless, "1;", 2, &used, &data, &trailers), 0);
    int r = 0;
    for (int i = 0; i < 2000 && r == 0; i++) {
        r = chunked_read(&endless, "x", 1, &used, &data, &trailers);
    }
    assert_int_equal(r, -1);
    sb_buf_done(&data);
    sb_buf_done(&trailers);
}

static void expect_format(const char *in, const char *want)
{
    struct sb_buf out;
    assert_int_equal(parse(in), 1);
    sb_buf_init(&out, 1 << 16);
    struct http_message message = {0};
    assert_true(http_message_set(&message, &head.http, NULL));
    http1_write_request(&out, &message.head);
    assert_string_equal(out.data, want);
    http_message_done(&message);
    sb_buf_done(&out);
}

static void test_format(void **state)
{
    (void)state;
    expect_format("GET http://A.example?x HTTP/1.1\r\nHost: evil\r\nProxy-Connection: x\r\n"
                  "Connection: x-hop, Content-Length, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
                  "Proxy-Authorization: Basic eDp5\r\nTE: gzip, trailers\r\nX: y\r\n"
                  "Content-Length: 3\r\n\r\n",
                  "GET /?x HTTP/1.1\r\nHost: A.example\r\nX: y\r\nContent-Length: 3\r\n"
                  "TE: trailers\r\nConnection: TE\r\n\r\n");
    expect_format("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                  "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    expect_format("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
                  "Connection: Upgrade, HTTP2-Settings\r\n\r\n",
                  "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_format("POST / HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\nX: y\r\nCookie: c=d\r\n\r\n",
                  "POST / HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\nX: y\r\n"
                  "Content-Length: 0\r\n\r\n");
    expect_format("OPTIONS http://a HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void test_request_to_a_proxy(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line;
    } cases[] = {
        {"GET /a?b HTTP/1.1\r\nHost: h:8\r\n\r\n", "GET http://h:8/a?b HTTP/1.1\r\nHost: h:8\r\n"},
        {"GET http://h:8?q HTTP/1.1\r\nHost: h:8\r\n\r\n", "GET http://h:8/?q HTTP/1.1\r\n"},
        {"OPTIONS * HTTP/1.1\r\nHost: h:8\r\n\r\n", "OPTIONS http://h:8 HTTP/1.1\r\n"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        static struct http1_head asked;
        const char *error = NULL;
        struct http_message message = {0};
        SB_CLEANUP(buf) struct sb_buf out;
        sb_buf_init(&out, 4096);
        assert_int_equal(http1_parse_request(cases[i].text, strlen(cases[i].text), &asked, &error),
                         1);
        assert_true(http_message_set(&message, &asked.http, NULL));
        http1_write_proxy_request(&out, &message.head, "h:8", "Basic eA==");
        assert_int_equal(strncmp(out.data, cases[i].line, strlen(cases[i].line)), 0);
        assert_non_null(strstr(out.data, "\r\nProxy-Authorization: Basic eA==\r\n"));
        http_message_done(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),       cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_responses), cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_format),    cmocka_unit_test(test_request_to_a_proxy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
