/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/server.h"

static void side_init(struct side *side, int fd)
{
    *side = (struct side){0};
    stream_init(&side->stream, fd);
    sb_buf_init(&side->in, LIMIT_HEAD_BYTES + LIMIT_READ_BYTES);
    sb_buf_init(&side->head, LIMIT_HEAD_BYTES * 2);
}

static void side_close(struct sb_loop *loop, struct side *side)
{
    sb_loop_unwatch(loop, side->watch);
    sb_buf_wipe(&side->in);
    sb_buf_wipe(&side->head);
    stream_close(&side->stream);
    side_init(side, -1);
}

void conn_drop_server(struct conn *conn)
{
    side_close(conn->proxy->loop, &conn->server);
}

void conn_log_end(struct conn *conn)
{
    if (conn->record_open) {
        conn->record_open = false;
        record_write(conn->proxy, &conn->record);
    }
}

static void conn_close(struct conn *conn)
{
    struct proxy *proxy = conn->proxy;
    if (conn->tunnel.loop) {
        conn->record.bytes_up = conn->tunnel.up.bytes;
        conn->record.bytes_down = conn->tunnel.down.bytes;
    }
    conn_log_end(conn);
    record_done(&conn->record);
    tunnel_done(&conn->tunnel);
    upstream_cancel(&conn->upstream);
    side_close(proxy->loop, &conn->client);
    side_close(proxy->loop, &conn->server);
    sb_loop_timer_stop(proxy->loop, &conn->timer);
    sb_loop_timer_stop(proxy->loop, &conn->turn);
    *(conn->prev ? &conn->prev->next : &proxy->conns) = conn->next;
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    free(conn);
    proxy->nconns--;
    server_conn_closed(proxy);
}

ssize_t conn_fill(struct side *side, size_t max)
{
    if (side->ended) {
        return 0;
    }
    char data[LIMIT_READ_BYTES];
    size_t room = side->in.len < max ? max - side->in.len : 0;
    if (room == 0) {
        return -ENOBUFS;
    }
    ssize_t n = stream_read(&side->stream, data, room < sizeof(data) ? room : sizeof(data));
    side->wants_read = n == -EAGAIN;
    side->ended = n == 0;
    if (n > 0) {
        sb_buf_append(&side->in, data, (size_t)n);
    }
    return n;
}

static void on_timer(void *arg)
{
    struct conn *conn = arg;
    if (conn->state == CONN_FIRST && !conn->head_timed) {
        conn_first_timeout(conn);
        conn_run(conn);
    } else {
        conn_close(conn);
    }
}

void conn_set_timer(struct conn *conn, uint64_t ms)
{
    sb_loop_timer(conn->proxy->loop, &conn->timer, ms, on_timer, conn);
}

int conn_answer(struct conn *conn, int status, const char *reason, const char *text)
{
    struct sb_buf *out = &conn->server.head;
    sb_buf_clear(out);
    sb_buf_printf(out,
                  "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                  "Content-Length: %zu\r\nX-Sbx-Proxy: answer\r\nConnection: close\r\n\r\n%s",
                  status, reason, strlen(text), conn->was_head ? "" : text);
    conn->record.status = status;
    conn->state = CONN_FLUSH;
    conn_set_timer(conn, LIMIT_LINGER_MS);
    return STEP_AGAIN;
}

static void decide(struct conn *conn)
{
    policy_decide(conn->proxy->config->policy, &conn->host, conn->port, &conn->decision);
    /* A wildcard must not open the services of the host itself. */
    bool host_service = strcmp(conn->host.text, "localhost") == 0;
    if (host_service && !conn->decision.exact) {
        conn->decision.allow = false;
    }
}

bool conn_judge(struct conn *conn, const char *path)
{
    decide(conn);
    conn->judged = true;
    record_set_decision(&conn->record, &conn->host, conn->port, &conn->decision);
    conn->record.path = path;
    conn->record.start_ms = sb_loop_now_ms(conn->proxy->loop);
    if (!record_log_works(conn->proxy)) {
        /* What cannot be recorded does not happen. */
        conn->decision.allow = conn->record.allow = false;
        conn->record.reason = "log-unwritable";
    }
    return conn->decision.allow;
}

static void log_refusal(struct conn *conn, const char *reason)
{
    conn->record.allow = false;
    if (reason) {
        conn->record.reason = reason;
    }
    conn->record_open = false;
    record_write(conn->proxy, &conn->record);
}

/* What the user can do about a refusal; never a rule that would change nothing. */
static char *advise(const struct conn *conn, const char *reason)
{
    const struct record *record = &conn->record;
    const char *sandbox = conn->proxy->config->sandbox;
    if (reason && strcmp(reason, "address") == 0) {
        return sb_xasprintf("It leads to an address of this host or of a private network, which a "
                            "wildcard, a preset or a kit cannot open.\n"
                            "If that is meant, on the host, for a private network: sbx policy "
                            "allow %s %s:%u\nand for the host's own services: sbx policy allow "
                            "%s localhost:%u, then use host.docker.internal:%u\n",
                            sandbox, record->host, record->port, sandbox, record->port,
                            record->port);
    }
    if (reason) {
        return sb_xstrdup("The host in the request must be the host of the connection\n");
    }
    if (record->rule && strncmp(record->rule, "deny ", 5) == 0) {
        return sb_xstrdup("A deny rule wins over every allow rule; on the host 'sbx policy ls' "
                          "shows it and 'sbx policy rm' removes it\n");
    }
    return sb_xasprintf("To allow it, on the host: sbx policy allow %s %s:%u\n"
                        "For every sandbox: sbx policy allow -g %s:%u\n",
                        sandbox, record->host, record->port, record->host, record->port);
}

int conn_refuse(struct conn *conn, const char *reason)
{
    conn->record.status = 403;
    log_refusal(conn, reason);
    const struct record *record = &conn->record;
    SB_CLEANUP(free)
    char *why = reason         ? sb_xasprintf("reason: %s", reason)
                : record->rule ? sb_xasprintf("rule: %s (%s)", record->rule, record->origin)
                               : sb_xstrdup("no rule allows it");
    SB_CLEANUP(free) char *advice = advise(conn, reason);
    SB_CLEANUP(free)
    char *text = sb_xasprintf("sbx: %s:%u is blocked for this sandbox\n%s\n%s", record->host,
                              record->port, why, advice);
    return conn_answer(conn, 403, "Forbidden", text);
}

int conn_refuse_tls(struct conn *conn, const char *reason)
{
    log_refusal(conn, reason);
    /* RFC 8446 6: a fatal access_denied alert, in the record version that every client reads. */
    static const char alert[] = {0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x31};
    sb_buf_clear(&conn->server.head);
    sb_buf_append(&conn->server.head, alert, sizeof(alert));
    conn->state = CONN_FLUSH;
    conn_set_timer(conn, LIMIT_LINGER_MS);
    return STEP_AGAIN;
}

static int step_handshake(struct conn *conn)
{
    int r = stream_handshake(&conn->client.stream);
    if (r == 1) {
        conn->state = CONN_HEAD;
        return STEP_AGAIN;
    }
    conn->client.wants_read = true;
    return r == -EAGAIN ? STEP_WAIT : STEP_CLOSE;
}

/* Writes the last answer, then reads and drops until the client closes, so that the kernel does not
 * send a reset that would take the answer away. */
static int step_flush(struct conn *conn)
{
    struct sb_buf *out = &conn->server.head;
    while (out->len > 0) {
        ssize_t n = stream_write(&conn->client.stream, out->data, out->len);
        conn->client.wants_write = n == -EAGAIN;
        if (n <= 0) {
            return n == -EAGAIN ? STEP_WAIT : STEP_CLOSE;
        }
        sb_buf_consume(out, (size_t)n);
    }
    if (!conn->shut) {
        conn->shut = true;
        stream_shutdown_write(&conn->client.stream);
    }
    sb_buf_clear(&conn->client.in);
    char data[LIMIT_READ_BYTES];
    ssize_t n = recv(conn->client.stream.fd, data, sizeof(data), 0);
    conn->client.wants_read = n < 0 && errno == EAGAIN;
    return n > 0 ? STEP_AGAIN : conn->client.wants_read ? STEP_WAIT : STEP_CLOSE;
}

static int step_up_tls(struct conn *conn)
{
    int r = stream_handshake(&conn->server.stream);
    if (r == 1) {
        conn_exchange_begin(conn);
        return STEP_AGAIN;
    }
    if (r == -EAGAIN) {
        conn->server.wants_read = true;
        return STEP_WAIT;
    }
    SB_CLEANUP(free)
    char *text = sb_xasprintf("sbx: TLS with %s:%u failed: %s\n", conn->host.text, conn->port,
                              stream_handshake_error(&conn->server.stream));
    conn_drop_server(conn);
    conn->record.reason = "upstream-tls";
    return conn_answer(conn, 502, "Bad Gateway", text);
}

static void on_tunnel_done(void *arg)
{
    conn_close(arg);
}

int conn_start_tunnel(struct conn *conn)
{
    struct sb_loop *loop = conn->proxy->loop;
    conn->state = CONN_TUNNEL;
    sb_loop_unwatch(loop, conn->client.watch);
    sb_loop_unwatch(loop, conn->server.watch);
    conn->client.watch = conn->server.watch = 0;
    sb_loop_timer_stop(loop, &conn->timer);
    tunnel_start(&conn->tunnel, loop, &conn->client.stream, &conn->server.stream, on_tunnel_done,
                 conn);
    tunnel_push(&conn->tunnel.up, conn->client.in.data, conn->client.in.len);
    tunnel_push(&conn->tunnel.down, conn->server.head.data, conn->server.head.len);
    tunnel_push(&conn->tunnel.down, conn->server.in.data, conn->server.in.len);
    sb_buf_wipe(&conn->client.in);
    sb_buf_wipe(&conn->client.head);
    sb_buf_wipe(&conn->server.in);
    sb_buf_wipe(&conn->server.head);
    return STEP_WAIT;
}

static int reached(struct conn *conn, int fd)
{
    side_close(conn->proxy->loop, &conn->server);
    stream_init(&conn->server.stream, fd);
    conn->server_host = conn->host;
    conn->server_port = conn->port;
    if (conn->tunnel_wanted) {
        if (conn->explicit_proxy && !conn->greeted) {
            sb_buf_puts(&conn->server.head, "HTTP/1.1 200 Connection established\r\n\r\n");
        }
        return conn_start_tunnel(conn);
    }
    if (!conn->secure) {
        conn_exchange_begin(conn);
        return STEP_AGAIN;
    }
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (tls_start_client(conn->proxy->tls, conn->host.text, conn->host.is_address,
                         &conn->server.stream, &err) < 0) {
        SB_CLEANUP(free) char *text = sb_xasprintf("sbx: %s\n", err->message);
        return conn_answer(conn, 502, "Bad Gateway", text);
    }
    conn->state = CONN_UP_TLS;
    conn_set_timer(conn, LIMIT_HEAD_MS);
    return STEP_AGAIN;
}

static void on_upstream(void *arg, enum upstream_status status, int fd, const char *error)
{
    struct conn *conn = arg;
    if (status == UPSTREAM_OK) {
        reached(conn, fd);
    } else if (conn->tunnel_wanted && (!conn->explicit_proxy || conn->greeted)) {
        conn->record.reason = status == UPSTREAM_REFUSED ? "address" : "unreachable";
        conn->record.allow = status != UPSTREAM_REFUSED;
        conn->closed = true;
    } else if (status == UPSTREAM_REFUSED) {
        conn_refuse(conn, "address");
    } else {
        SB_CLEANUP(free)
        char *text = sb_xasprintf("sbx: cannot reach %s:%u: %s\n", conn->host.text, conn->port,
                                  error ? error : "unknown error");
        conn->record.reason = "unreachable";
        conn_answer(conn, 502, "Bad Gateway", text);
    }
    conn_run(conn);
}

int conn_reach(struct conn *conn, bool for_tunnel)
{
    conn->tunnel_wanted = for_tunnel;
    conn->state = CONN_CONNECT;
    conn->record_open = true;
    sb_loop_timer_stop(conn->proxy->loop, &conn->timer);
    upstream_connect(&conn->upstream, conn->proxy, &conn->host, conn->port, &conn->decision,
                     on_upstream, conn);
    return STEP_WAIT;
}

static int step(struct conn *conn)
{
    switch (conn->state) {
    case CONN_FIRST:
        return conn_step_first(conn);
    case CONN_HANDSHAKE:
        return step_handshake(conn);
    case CONN_HEAD:
        return conn_step_head(conn);
    case CONN_UP_TLS:
        return step_up_tls(conn);
    case CONN_EXCHANGE:
        return conn_step_exchange(conn);
    case CONN_FLUSH:
        return step_flush(conn);
    case CONN_CONNECT:
    case CONN_TUNNEL:
        break;
    }
    return STEP_WAIT;
}

static void on_event(void *arg, uint32_t events)
{
    (void)events;
    conn_run(arg);
}

/* The client may have reset its connection while it waits for an answer; a hang-up of one
 * direction (EPOLLRDHUP) is its right. */
static void on_client_event(void *arg, uint32_t events)
{
    struct conn *conn = arg;
    bool waits =
        conn->state == CONN_CONNECT || conn->state == CONN_UP_TLS || conn->state == CONN_EXCHANGE;
    if (waits && (events & (EPOLLERR | EPOLLHUP))) {
        conn->record.reason = "client-gone";
        conn_close(conn);
        return;
    }
    conn_run(conn);
}

static bool set_watch(struct conn *conn, struct side *side)
{
    struct sb_loop *loop = conn->proxy->loop;
    uint32_t events =
        side->stream.fd < 0 ? 0 : stream_events(&side->stream, side->wants_read, side->wants_write);
    bool client = side == &conn->client;
    if (!events && !client) {
        /* Without interest the descriptor leaves the loop: a hang-up would be reported for ever.
         * The client's stays, for on_client_event() ends what waits for nobody. */
        sb_loop_unwatch(loop, side->watch);
        side->watch = 0;
        return true;
    }
    if (side->watch) {
        sb_loop_modify(loop, side->watch, events);
        return true;
    }
    side->watch =
        sb_loop_watch(loop, side->stream.fd, events, client ? on_client_event : on_event, conn);
    return side->watch != 0;
}

static void on_turn(void *arg)
{
    conn_run(arg);
}

void conn_run(struct conn *conn)
{
    /* upstream_connect() may call back from within a step: that step's loop goes on by itself. */
    if (conn->running) {
        return;
    }
    conn->running = true;
    int r = conn->closed ? STEP_CLOSE : STEP_AGAIN;
    for (int round = 0; r == STEP_AGAIN && round < LIMIT_TURN_ROUNDS; round++) {
        enum conn_state before = conn->state;
        conn->client.wants_read = conn->client.wants_write = false;
        conn->server.wants_read = conn->server.wants_write = false;
        r = step(conn);
        if (r == STEP_WAIT && conn->state != before && conn->state != CONN_CONNECT) {
            r = STEP_AGAIN;
        }
    }
    conn->running = false;
    if (conn->closed || r == STEP_CLOSE) {
        conn_close(conn);
        return;
    }
    if (conn->state == CONN_TUNNEL) {
        return;
    }
    if (!set_watch(conn, &conn->client) || !set_watch(conn, &conn->server)) {
        conn_close(conn);
    } else if (r == STEP_AGAIN) {
        sb_loop_timer(conn->proxy->loop, &conn->turn, 1, on_turn, conn);
    }
}

void conn_judge_again(struct conn *conn)
{
    if (!conn->judged) {
        return;
    }
    decide(conn);
    bool runs = conn->state == CONN_CONNECT || conn->state == CONN_UP_TLS ||
                conn->state == CONN_EXCHANGE || conn->state == CONN_TUNNEL;
    if (!conn->decision.allow && runs) {
        conn->record.reason = "rule-changed";
        conn_close(conn);
    }
}

static bool pin_original(struct conn *conn, const struct in6_addr *original, uint16_t port)
{
    const char *name = NULL;
    conn->port = port;
    conn->pinned = true;
    if (names_lookup(conn->proxy->names, original, &name)) {
        conn->pinned_name = true;
        return name && host_parse(name, strlen(name), &conn->host, NULL) == 0;
    }
    char text[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, original, text, sizeof(text));
    return host_parse(text, strlen(text), &conn->host, NULL) == 0;
}

void conn_open(struct proxy *proxy, int fd, const struct in6_addr *original, uint16_t port)
{
    struct conn *conn = sb_xcalloc(1, sizeof(*conn));
    conn->proxy = proxy;
    side_init(&conn->client, fd);
    side_init(&conn->server, -1);
    conn->upstream.fd = -1;
    conn->next = proxy->conns;
    if (conn->next) {
        conn->next->prev = conn;
    }
    proxy->conns = conn;
    proxy->nconns++;
    if (original) {
        conn->state = CONN_FIRST;
        if (!pin_original(conn, original, port)) {
            conn_close(conn);
            return;
        }
        proxy_map_alias(&conn->host);
        conn_set_timer(conn, LIMIT_PEEK_MS);
    } else {
        conn->state = CONN_HEAD;
        conn->explicit_proxy = true;
        conn_set_timer(conn, LIMIT_HEAD_MS);
    }
    conn_run(conn);
}
