/* SPDX-License-Identifier: Apache-2.0
 * A request head from the sandbox: where does it want to go, may it, and what is sent instead. */
#include <errno.h>
#include <string.h>

#include "proxy/conn.h"

enum { HTTP_PORT = 80, HTTPS_PORT = 443 };

static int bad_request(struct conn *conn, const char *why)
{
    SB_CLEANUP(free) char *text = sb_xasprintf("sbx: request refused: %s\n", why);
    return conn_answer(conn, 400, "Bad Request", text);
}

static bool same_host(const struct host *a, const struct host *b)
{
    return strcmp(a->text, b->text) == 0;
}

/* Parses the target's authority into host and port; NULL or why not. */
static const char *read_target(struct conn *conn, const struct http1_target *target,
                               struct host *ret_host, uint16_t *ret_port)
{
    bool foreign_scheme = target->absolute &&
                          !(target->scheme_len == 4 && strncasecmp(target->scheme, "http", 4) == 0);
    if (foreign_scheme && !conn->secure) {
        return "only http:// may be asked of a proxy; use CONNECT";
    }
    uint16_t fallback = conn->pinned ? conn->port : target->connect ? HTTPS_PORT : HTTP_PORT;
    if (host_parse_authority(target->authority, target->authority_len, fallback, ret_host, ret_port,
                             NULL) < 0) {
        return "the host is not a valid name or address";
    }
    proxy_map_alias(ret_host);
    return NULL;
}

/* CONNECT: either a tunnel or, where a credential may be needed, a look at the first bytes. */
static int begin_connect(struct conn *conn, size_t head_len)
{
    if (!conn_judge(conn, "forward-bypass")) {
        return conn_refuse(conn, NULL);
    }
    sb_buf_consume(&conn->client.in, head_len);
    conn->pinned = true;
    conn->pinned_name = !conn->host.is_address;
    if (!inject_wants(conn->proxy->config->inject, &conn->host, conn->port)) {
        return conn_reach(conn, true);
    }
    static const char ok[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    if (stream_write(&conn->client.stream, ok, sizeof(ok) - 1) != (ssize_t)(sizeof(ok) - 1)) {
        return STEP_CLOSE;
    }
    conn->greeted = true;
    conn->head_timed = true; /* the client speaks first here: there is no early guess */
    conn->state = CONN_FIRST;
    conn_set_timer(conn, LIMIT_HEAD_MS);
    return STEP_AGAIN;
}

static void body_begin(struct body *body, const struct http1_head *head)
{
    *body = (struct body){.kind = head->body, .left = head->body_length};
    body->done = head->body == HTTP1_BODY_NONE ||
                 (head->body == HTTP1_BODY_LENGTH && head->body_length == 0);
}

/* Writes the request as the origin shall see it, with its credential. */
static int forward(struct conn *conn, const struct http1_head *head)
{
    struct inject_result result;
    if (inject_apply(conn->proxy->config->inject, &conn->host, conn->port, head, &result) < 0) {
        return bad_request(conn, "the credential does not fit into the request");
    }
    sb_buf_wipe(&conn->client.head);
    http1_format_head(&conn->client.head, head, &result.edits, false);
    conn->record.service = result.service ? sb_xstrdup(result.service) : NULL;
    conn->record.unbound = result.unbound;
    inject_result_done(&result);
    if (conn->client.head.overflow) {
        return bad_request(conn, "the head is too large");
    }
    conn->was_upgrade = head->upgrade;
    conn->keep = head->keep_alive && head->minor_version == 1;
    body_begin(&conn->client.body, head);
    conn->client.ready = 0;
    sb_buf_consume(&conn->client.in, head->head_len);
    conn->record_open = true;
    struct side *server = &conn->server;
    char probe;
    bool reusable = server->stream.fd >= 0 && same_host(&conn->server_host, &conn->host) &&
                    conn->server_port == conn->port && server->in.len == 0 &&
                    stream_read(&server->stream, &probe, 1) == -EAGAIN;
    if (reusable) {
        conn_exchange_begin(conn);
        return STEP_AGAIN;
    }
    conn_drop_server(conn);
    return conn_reach(conn, false);
}

static const char *http_path(const struct conn *conn)
{
    return conn->explicit_proxy ? "forward" : "transparent";
}

static int judge_request(struct conn *conn, const struct http1_head *head)
{
    struct http1_target target;
    const char *why = NULL;
    struct host host;
    uint16_t port;
    conn->was_head = http1_method_is(head, "HEAD");
    if (http1_target(head, &target, &why) < 0 ||
        (why = read_target(conn, &target, &host, &port)) != NULL) {
        return bad_request(conn, why);
    }
    if (!conn->pinned && !target.connect && !target.absolute) {
        return bad_request(conn, "this is a proxy: ask for an absolute URL (http://host/path)");
    }
    if (target.connect && conn->pinned) {
        return bad_request(conn, "CONNECT inside a tunnel");
    }
    bool mismatch = conn->pinned && (!same_host(&host, &conn->host) || port != conn->port);
    if (!conn->pinned) {
        conn->host = host;
        conn->port = port;
    }
    if (target.connect) {
        return begin_connect(conn, head->head_len);
    }
    bool allowed = conn_judge(conn, http_path(conn));
    snprintf(conn->record.method, sizeof(conn->record.method), "%.*s", (int)head->method_len,
             head->method);
    conn->record.scheme = conn->secure ? "https" : "http";
    conn->record.target = sb_xstrndup(target.path, target.path_len);
    if (!allowed || mismatch) {
        return conn_refuse(conn, allowed ? "host-mismatch" : NULL);
    }
    return forward(conn, head);
}

int conn_step_head(struct conn *conn)
{
    struct sb_buf *in = &conn->client.in;
    const char *why = NULL;
    struct http1_head head;
    int r = in->len ? http1_parse_request(in->data, in->len, &head, &why) : 0;
    if (r < 0) {
        return bad_request(conn, why);
    }
    if (r > 0) {
        if (!record_log_works(conn->proxy)) {
            return conn_answer(conn, 503, "Service Unavailable",
                               "sbx: the request log cannot be written\n");
        }
        return judge_request(conn, &head);
    }
    if (in->len > 0 && !conn->head_timed) {
        conn->head_timed = true;
        conn_set_timer(conn, LIMIT_HEAD_MS);
    }
    ssize_t n = conn_fill(&conn->client, LIMIT_HEAD_BYTES);
    if (n == -EAGAIN) {
        return STEP_WAIT;
    }
    return n > 0 ? STEP_AGAIN : STEP_CLOSE;
}
