/* SPDX-License-Identifier: Apache-2.0
 * The first bytes of a redirected connection, or of a CONNECT tunnel that may carry a credential.
 */
#include <errno.h>
#include <string.h>

#include "proxy/conn.h"
#include "proxy/sni.h"

enum first_kind { FIRST_UNKNOWN, FIRST_TLS, FIRST_HTTP, FIRST_OTHER };

/* A method is upper-case letters; eight of them, or some and a space, are enough to believe it. */
static enum first_kind guess(const struct sb_buf *in)
{
    if (in->len == 0) {
        return FIRST_UNKNOWN;
    }
    if ((unsigned char)in->data[0] == 0x16) {
        return FIRST_TLS;
    }
    for (size_t i = 0; i < in->len; i++) {
        char c = in->data[i];
        if (c == ' ' && i >= 3) {
            return FIRST_HTTP;
        }
        if (!((c >= 'A' && c <= 'Z') || c == '-') || i > 24) {
            return FIRST_OTHER;
        }
    }
    return FIRST_UNKNOWN;
}

static const char *tunnel_path(const struct conn *conn, bool tls)
{
    return conn->explicit_proxy ? "forward-bypass" : tls ? "transparent" : "network";
}

static int begin_raw(struct conn *conn)
{
    if (!conn_judge(conn, tunnel_path(conn, false))) {
        conn->record.allow = false;
        record_write(conn->proxy, &conn->record);
        return STEP_CLOSE;
    }
    return conn_reach(conn, true);
}

/* The name in the ClientHello must be the name that was judged.  *ret_asked is what the client
 * calls it, which may be an alias: its certificate must be for that. */
static bool sni_agrees(const struct conn *conn, const char *sni, bool has_name,
                       struct host *ret_asked)
{
    *ret_asked = conn->host;
    if (!conn->pinned_name) {
        return true;
    }
    if (!has_name || host_parse(sni, strlen(sni), ret_asked, NULL) < 0) {
        return false;
    }
    struct host mapped = *ret_asked;
    proxy_map_alias(&mapped);
    return strcmp(mapped.text, conn->host.text) == 0;
}

static int terminate_tls(struct conn *conn, const char *name)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int r = tls_start_server(conn->proxy->tls, conn->proxy->config, name, &conn->client.stream,
                             conn->client.in.data, conn->client.in.len, &err);
    if (r < 0) {
        return conn_refuse_tls(conn, "no-ca");
    }
    sb_buf_clear(&conn->client.in);
    conn->secure = true;
    conn->state = CONN_HANDSHAKE;
    return STEP_AGAIN;
}

static int begin_tls(struct conn *conn)
{
    char sni[256];
    bool has_name = false;
    const struct sb_buf *in = &conn->client.in;
    int r = sni_parse((const uint8_t *)in->data, in->len, sni, &has_name);
    if (r == 0) {
        return STEP_WAIT;
    }
    bool allowed = conn_judge(conn, tunnel_path(conn, true));
    if (!allowed) {
        return conn_refuse_tls(conn, NULL);
    }
    struct host asked;
    if (r < 0 || !sni_agrees(conn, sni, has_name, &asked)) {
        return conn_refuse_tls(conn, "sni-mismatch");
    }
    if (inject_wants(conn->proxy->config->inject, &conn->host, conn->port)) {
        return terminate_tls(conn, asked.text);
    }
    return conn_reach(conn, true);
}

static int begin(struct conn *conn, enum first_kind kind)
{
    switch (kind) {
    case FIRST_TLS:
        return begin_tls(conn);
    case FIRST_HTTP:
        conn->state = CONN_HEAD;
        conn_set_timer(conn, LIMIT_HEAD_MS);
        return STEP_AGAIN;
    case FIRST_OTHER:
        return begin_raw(conn);
    case FIRST_UNKNOWN:
        break;
    }
    return STEP_WAIT;
}

int conn_step_first(struct conn *conn)
{
    enum conn_state before = conn->state;
    ssize_t n = conn_fill(&conn->client, LIMIT_HEAD_BYTES);
    if (n < 0 && n != -EAGAIN) {
        return STEP_CLOSE;
    }
    int r = begin(conn, guess(&conn->client.in));
    if (r != STEP_WAIT || conn->state != before) {
        return r;
    }
    if (n == 0) {
        return STEP_CLOSE;
    }
    return n > 0 ? STEP_AGAIN : STEP_WAIT;
}

/* The client waits.  Only a rule that names this very place lets it be a protocol whose server
 * speaks first; all others have the time of a head to say what they are. */
void conn_first_timeout(struct conn *conn)
{
    conn->head_timed = true;
    conn_set_timer(conn, LIMIT_HEAD_MS);
    struct policy_decision decision;
    policy_decide(conn->proxy->config->policy, &conn->host, conn->port, &decision);
    if (conn->client.in.len > 0 || (decision.allow && !decision.exact)) {
        return;
    }
    conn->running = true;
    conn->closed |= begin_raw(conn) == STEP_CLOSE;
    conn->running = false;
}
