/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/sni.h"

#include <string.h>

enum {
    RECORD_HANDSHAKE = 22,
    RECORD_HEADER = 5,
    RECORD_MAX = 16 * 1024,
    HANDSHAKE_CLIENT_HELLO = 1,
    HANDSHAKE_HEADER = 4,
    EXTENSION_SERVER_NAME = 0,
};

/* Bytes still to be read; a read past the end sets `bad` and yields zeros. */
struct reader {
    const uint8_t *p;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct reader *r, size_t n)
{
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    r->left -= n;
    return p;
}

static size_t take_number(struct reader *r, size_t bytes)
{
    const uint8_t *p = take(r, bytes);
    size_t value = 0;
    for (size_t i = 0; p && i < bytes; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

/* A vector with a length of `bytes` bytes in front, as a reader of its own. */
static struct reader take_vector(struct reader *r, size_t bytes)
{
    size_t n = take_number(r, bytes);
    const uint8_t *p = take(r, n);
    return (struct reader){.p = p, .left = p ? n : 0, .bad = !p};
}

/* RFC 6066 section 3: exactly one name, of type host_name. */
static int parse_server_name(struct reader extension, char ret_host[256])
{
    struct reader list = take_vector(&extension, 2);
    size_t type = take_number(&list, 1);
    struct reader name = take_vector(&list, 2);
    if (extension.bad || extension.left || list.bad || list.left || name.bad || type != 0 ||
        !name.left || name.left > 255) {
        return -1;
    }
    char host[256];
    for (size_t i = 0; i < name.left; i++) {
        char c = (char)name.p[i];
        if (c >= 'A' && c <= 'Z') {
            c = (char)(c + ('a' - 'A'));
        }
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
              c == '_')) {
            return -1;
        }
        host[i] = c;
    }
    host[name.left] = '\0';
    memcpy(ret_host, host, name.left + 1);
    return 0;
}

/* The body of a ClientHello, RFC 8446 4.1.2. */
static int parse_hello(struct reader hello, char ret_host[256], bool *ret_has_name)
{
    char host[256];
    bool has_name = false;
    take(&hello, 2 + 32); /* legacy_version, random */
    struct reader session = take_vector(&hello, 1);
    struct reader suites = take_vector(&hello, 2);
    struct reader compression = take_vector(&hello, 1);
    if (hello.bad || session.left > 32 || suites.left < 2 || suites.left % 2 || !compression.left) {
        return -1;
    }
    if (hello.left) { /* TLS 1.2 allows a hello without any extension */
        struct reader extensions = take_vector(&hello, 2);
        while (extensions.left && !extensions.bad) {
            size_t type = take_number(&extensions, 2);
            struct reader body = take_vector(&extensions, 2);
            if (extensions.bad || type != EXTENSION_SERVER_NAME) {
                continue;
            }
            if (has_name || parse_server_name(body, host) < 0) {
                return -1;
            }
            has_name = true;
        }
        if (extensions.bad || hello.left) {
            return -1;
        }
    }
    if (has_name) {
        memcpy(ret_host, host, strlen(host) + 1);
    }
    *ret_has_name = has_name;
    return 0;
}

/* Where the collected handshake bytes end: their number once the header is there, else 0; -1 when
 * this is no ClientHello of bearable size. */
static long hello_size(const uint8_t *bytes, size_t have)
{
    if (have && bytes[0] != HANDSHAKE_CLIENT_HELLO) {
        return -1;
    }
    if (have < HANDSHAKE_HEADER) {
        return 0;
    }
    long size = (long)bytes[1] << 16 | (long)bytes[2] << 8 | (long)bytes[3];
    return size + HANDSHAKE_HEADER > SNI_HELLO_MAX ? -1 : size + HANDSHAKE_HEADER;
}

/* The record header, or as much of it as is there: a client that does not speak TLS is recognised
 * by its first byte. */
static bool record_plausible(const uint8_t *p, size_t n)
{
    if ((n > 0 && p[0] != RECORD_HANDSHAKE) || (n > 1 && p[1] != 3)) {
        return false;
    }
    if (n < RECORD_HEADER) {
        return true;
    }
    size_t size = (size_t)p[3] << 8 | p[4];
    return size > 0 && size <= RECORD_MAX;
}

/* 1 when the whole hello is there, 0 when not yet, -1 when it is none. */
static int parse_so_far(const uint8_t *hello, size_t have, char ret_host[256], bool *ret_has_name)
{
    long size = hello_size(hello, have);
    if (size <= 0 || have < (size_t)size) {
        return size < 0 ? -1 : 0;
    }
    struct reader body = {.p = hello + HANDSHAKE_HEADER, .left = (size_t)size - HANDSHAKE_HEADER};
    return parse_hello(body, ret_host, ret_has_name) < 0 ? -1 : 1;
}

/* The first of the records: its bytes that are there.  -1 when it is none, 0 when that cannot be
 * said yet. */
static int take_record(const uint8_t *data, size_t len, size_t *ret_here)
{
    if (!record_plausible(data, len)) {
        return -1;
    }
    if (len < RECORD_HEADER) {
        return 0;
    }
    size_t record = (size_t)data[3] << 8 | data[4], left = len - RECORD_HEADER;
    *ret_here = record < left ? record : left;
    return 1;
}

/* A hello may be cut into records anywhere, even inside a name, so it is put together first. */
static int parse_pieces(const uint8_t *data, size_t len, char ret_host[256], bool *ret_has_name)
{
    uint8_t hello[SNI_HELLO_MAX];
    size_t have = 0, here = 0;
    for (size_t at = 0; at < len; at += RECORD_HEADER + here) {
        int r = take_record(data + at, len - at, &here);
        if (r <= 0) {
            return r;
        }
        size_t fits = here < sizeof(hello) - have ? here : sizeof(hello) - have;
        memcpy(hello + have, data + at + RECORD_HEADER, fits);
        have += fits;
        r = parse_so_far(hello, have, ret_host, ret_has_name);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

int sni_parse(const uint8_t *data, size_t len, char ret_host[256], bool *ret_has_name)
{
    size_t here = 0;
    int r = take_record(data, len, &here);
    r = r <= 0 ? r : parse_so_far(data + RECORD_HEADER, here, ret_host, ret_has_name);
    /* Nearly always that is all of it; a buffer for pieces costs more than the parsing. */
    return r == 0 && here && len > RECORD_HEADER + here
               ? parse_pieces(data, len, ret_host, ret_has_name)
               : r;
}
