/* SPDX-License-Identifier: Apache-2.0
 * Says what our parser makes of requests, for a test that asks another parser the same
 * (tests/e2e/test_http1_oracle.py).  In: 4 bytes of length, little-endian, and the bytes of one
 * connection, again and again.  Out: a line of JSON for each, texts in hexadecimal:
 *   {"requests":[{"method","target","fields":[name,value,...],"body","whole":bool}],"end"}
 * end: "refused", "more" (it waits for the rest), "clean", "closed" (it said so), or "tunnel"
 * (CONNECT, Upgrade). */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "policy/host.h"
#include "proxy/chunked.h"
#include "proxy/http1.h"

enum { INPUT_MAX = 1 << 20 };

static void put_hex(const char *data, size_t len)
{
    putchar('"');
    for (size_t i = 0; i < len; i++) {
        printf("%02x", (unsigned char)data[i]);
    }
    putchar('"');
}

/* 1: the body is whole, 0: more bytes are needed, -1: malformed.  *ret_used: its bytes. */
static int read_body(const struct http1_head *head, const char *data, size_t len,
                     struct sb_buf *body, size_t *ret_used)
{
    *ret_used = 0;
    if (head->body == HTTP1_BODY_NONE) {
        return 1;
    }
    if (head->body == HTTP1_BODY_LENGTH) {
        bool whole = head->http.body_length <= len;
        *ret_used = whole ? (size_t)head->http.body_length : len;
        sb_buf_append(body, data, *ret_used);
        return whole;
    }
    struct chunked chunked = {0};
    struct sb_buf trailers;
    sb_buf_init(&trailers, INPUT_MAX);
    int r = chunked_read(&chunked, data, len, ret_used, body, &trailers);
    sb_buf_done(&trailers);
    return r;
}

static void put_head(const struct http1_head *head)
{
    printf("{\"method\":");
    put_hex(head->http.method, head->http.method_len);
    printf(",\"target\":");
    put_hex(head->target, head->target_len);
    printf(",\"fields\":[");
    for (size_t i = 0; i < head->http.nfields; i++) {
        fputs(i ? "," : "", stdout);
        put_hex(head->fields[i].name, head->fields[i].name_len);
        putchar(',');
        put_hex(head->fields[i].value, head->fields[i].value_len);
    }
    putchar(']');
}

/* The parser leaves the authority to this, as the proxy does. */
static bool has_place(const struct http_head *head)
{
    struct host host;
    uint16_t port;
    return !head->authority_len ||
           host_parse_authority(head->authority, head->authority_len, 80, &host, &port, NULL) == 0;
}

static const char *read_connection(const char *data, size_t len)
{
    static struct http1_head head;
    const char *why = NULL;
    for (size_t count = 0; len; count++) {
        int r = http1_parse_request(data, len, &head, &why);
        if (r <= 0) {
            return r < 0 ? "refused" : "more";
        }
        if (!has_place(&head.http)) {
            return "refused";
        }
        struct sb_buf body;
        size_t used;
        sb_buf_init(&body, INPUT_MAX);
        r = read_body(&head, data + head.head_len, len - head.head_len, &body, &used);
        fputs(count ? "," : "", stdout);
        put_head(&head);
        printf(",\"body\":");
        put_hex(body.data ? body.data : "", body.len);
        printf(",\"whole\":%s}", r == 1 ? "true" : "false");
        sb_buf_done(&body);
        if (r <= 0) {
            return r < 0 ? "refused" : "more";
        }
        if (head.connect || http_find(&head.http, "upgrade")) {
            return "tunnel";
        }
        if (!head.keep_alive) {
            return "closed";
        }
        data += head.head_len + used;
        len -= head.head_len + used;
    }
    return "clean";
}

int main(void)
{
    static char data[INPUT_MAX];
    uint8_t prefix[4];
    while (fread(prefix, sizeof(prefix), 1, stdin) == 1) {
        uint32_t len = (uint32_t)prefix[0] | (uint32_t)prefix[1] << 8 | (uint32_t)prefix[2] << 16 |
                       (uint32_t)prefix[3] << 24;
        if (len > sizeof(data) || fread(data, 1, len, stdin) != len) {
            return 1;
        }
        fputs("{\"requests\":[", stdout);
        const char *end = read_connection(data, len);
        printf("],\"end\":\"%s\"}\n", end);
    }
    return 0;
}
