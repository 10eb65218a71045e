/* SPDX-License-Identifier: Apache-2.0
 * The first bytes of a connection say what it is. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "proxy/bounds.h"
#include "proxy/conn.h"
#include "proxy/front1.h"
#include "proxy/front2.h"
#include "proxy/passage.h"
#include "proxy/sni.h"
#include "proxy/socks.h"

enum { FIRST_METHOD_MAX = 64, FIRST_LINE_MAX = 4096 };

enum first_kind { FIRST_UNKNOWN, FIRST_TLS, FIRST_HTTP1, FIRST_HTTP2, FIRST_OTHER };

/* RFC 9113 3.4; what follows "PRI " tells it from a method of that name. */
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* A first line with a version of HTTP in it is a request, however odd: the parser refuses what it
 * does not like, and nothing else reads it.  IRC ("NICK x") and others begin alike without one. */
static enum first_kind guess_line(const char *line, size_t len)
{
    static const char version[] = " HTTP/";
    const size_t n = sizeof(version) - 1;
    const char *lf = memchr(line, '\n', len);
    size_t end = lf ? (size_t)(lf - line) : len;
    for (size_t i = 0; i + n <= end; i++) {
        if (strncasecmp(line + i, version, n) == 0) {
            return FIRST_HTTP1;
        }
    }
    return lf ? FIRST_OTHER : len > FIRST_LINE_MAX ? FIRST_HTTP1 : FIRST_UNKNOWN;
}

/* A method is upper-case letters, and a space follows. */
static enum first_kind guess_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == ' ' && i > 0) {
            return guess_line(text, len);
        }
        if (!((c >= 'A' && c <= 'Z') || c == '-' || c == '_') || i > FIRST_METHOD_MAX) {
            return FIRST_OTHER;
        }
    }
    return FIRST_UNKNOWN;
}

static enum first_kind guess(const struct sb_buf *in)
{
    if (in->len == 0) {
        return FIRST_UNKNOWN;
    }
    if ((unsigned char)in->data[0] == 0x16) {
        return FIRST_TLS;
    }
    size_t n = in->len < sizeof(preface) - 1 ? in->len : sizeof(preface) - 1;
    if (memcmp(in->data, preface, n) == 0) {
        return n == sizeof(preface) - 1 ? FIRST_HTTP2 : FIRST_UNKNOWN;
    }
    size_t skip = 0; /* RFC 9112 2.2: servers ignore empty lines before a request */
    while (skip < in->len && (in->data[skip] == '\r' || in->data[skip] == '\n')) {
        skip++;
    }
    return guess_text(in->data + skip, in->len - skip);
}

/* The name in the ClientHello must be the name that was judged.  *ret_asked is what the client
 * calls it, which may be an alias: its certificate must be for that. */
static bool sni_agrees(const struct door *door, const char *sni, bool has_name,
                       struct host *ret_asked)
{
    *ret_asked = door->host;
    if (!door->pinned_name) {
        return true;
    }
    if (!has_name || host_parse(sni, strlen(sni), ret_asked, NULL) < 0) {
        return false;
    }
    struct host mapped = *ret_asked;
    host_map_alias(&mapped);
    return strcmp(mapped.text, door->host.text) == 0;
}

static int terminate_tls(struct conn *conn, const char *name)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    struct wire *wire = &conn->wire;
    if (tls_start_server(conn->proxy->tls, conn->proxy->config, name, &wire->stream, wire->in.data,
                         wire->in.len, &err) < 0) {
        return passage_refuse_tls(conn, "no-ca");
    }
    sb_buf_clear(&wire->in);
    passage_drop(conn);
    /* It has spoken: what it had for that is over, and a handshake may take longer. */
    wire_deadline(wire, LIMIT_HEAD_MS);
    conn->door.secure = true;
    conn->state = CONN_TLS;
    return STEP_AGAIN;
}

static int begin_tls(struct conn *conn)
{
    char sni[256];
    bool has_name = false;
    const struct sb_buf *in = &conn->wire.in;
    const struct door *door = &conn->door;
    int r = sni_parse((const uint8_t *)in->data, in->len, sni, &has_name);
    if (r == 0) {
        return STEP_WAIT;
    }
    struct host asked;
    if (r < 0) {
        return passage_refuse_tls(conn, "bad-hello");
    }
    if (!sni_agrees(door, sni, has_name, &asked)) {
        return passage_refuse_tls(conn, "sni-mismatch");
    }
    struct policy_decision decision;
    policy_decide(conn->proxy->config->policy,
                  &(struct policy_request){.host = &door->host, .port = door->port}, &decision);
    if ((decision.allow || decision.needs_request) &&
        judge_needs_requests(conn->proxy, &door->host, door->port)) {
        return terminate_tls(conn, asked.text);
    }
    return passage_begin(conn, &door->host, door->port, PASSAGE_TLS);
}

static int begin(struct conn *conn, enum first_kind kind)
{
    switch (kind) {
    case FIRST_TLS:
        return begin_tls(conn);
    case FIRST_HTTP1:
        passage_drop(conn);
        return front1_begin(conn);
    case FIRST_HTTP2:
        passage_drop(conn);
        return front2_begin(conn);
    case FIRST_OTHER:
        return passage_begin(conn, &conn->door.host, conn->door.port, PASSAGE_RAW);
    case FIRST_UNKNOWN:
        break;
    }
    return STEP_WAIT;
}

/* At the announced port only a proxy's protocols are spoken. */
static int begin_explicit(struct conn *conn)
{
    if (conn->wire.in.data[0] != SOCKS_VERSION) {
        return front1_begin(conn);
    }
    conn->state = CONN_SOCKS;
    return STEP_AGAIN;
}

int conn_step_first(struct conn *conn)
{
    ssize_t n = conn_fill(conn, LIMIT_HEAD_BYTES);
    if (n < 0 && n != -EAGAIN) {
        return STEP_CLOSE;
    }
    int r = STEP_WAIT;
    if (conn->wire.in.len) {
        r = conn->door.pinned ? begin(conn, guess(&conn->wire.in)) : begin_explicit(conn);
    }
    if (r != STEP_WAIT || conn->state != CONN_FIRST) {
        return r;
    }
    if (n == 0 && conn->passage) { /* it says nothing more: the server may */
        return begin(conn, FIRST_OTHER);
    }
    return n == 0 ? STEP_CLOSE : n > 0 ? STEP_AGAIN : STEP_WAIT;
}

/* Perhaps its server speaks first (SMTP, FTP, MySQL): that shows when it is connected.  Where
 * requests must be seen, the client has the time of a head to send one: a slow one must not become
 * a tunnel that nobody looks into. */
void conn_first_silent(struct conn *conn)
{
    const struct door *door = &conn->door;
    conn->peeked = true;
    wire_deadline(&conn->wire, LIMIT_HEAD_MS);
    if (conn->wire.in.len == 0 && !judge_needs_requests(conn->proxy, &door->host, door->port) &&
        passage_begin(conn, &door->host, door->port, PASSAGE_SILENT) == STEP_CLOSE) {
        conn_doom(conn);
    }
}

static int refuse_socks(struct conn *conn, enum socks_reply reply)
{
    passage_bad_request(conn, reply == SOCKS_BAD_COMMAND
                                  ? "the only command of SOCKS is CONNECT"
                                  : "the address in SOCKS is no valid name or address");
    socks_write_reply(&conn->wire.out, reply);
    return conn_linger(conn);
}

int conn_step_socks(struct conn *conn)
{
    struct sb_buf *in = &conn->wire.in;
    struct host host;
    uint16_t port;
    enum socks_reply reply = SOCKS_GRANTED;
    bool no_auth = false;
    int used = conn->greeted ? socks_read_request(in->data, in->len, &host, &port, &reply)
                             : socks_read_greeting(in->data, in->len, &no_auth);
    if (used == 0) {
        ssize_t n = conn_fill(conn, SOCKS_MESSAGE_MAX);
        return n > 0 ? STEP_AGAIN : n == -EAGAIN ? STEP_WAIT : STEP_CLOSE;
    }
    if (used < 0) {
        passage_bad_request(conn, "SOCKS of another version than 5");
        return STEP_CLOSE;
    }
    sb_buf_consume(in, (size_t)used);
    if (!conn->greeted) {
        conn->greeted = true;
        socks_write_method(&conn->wire.out, no_auth);
        if (!no_auth) {
            passage_bad_request(conn, "SOCKS with no method that needs no password");
        }
        return no_auth ? STEP_AGAIN : conn_linger(conn);
    }
    if (reply != SOCKS_GRANTED) {
        return refuse_socks(conn, reply);
    }
    host_map_alias(&host);
    return passage_begin(conn, &host, port, PASSAGE_SOCKS);
}
