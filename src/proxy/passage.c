/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/passage.h"

#include <string.h>
#include <sys/epoll.h>

#include "proxy/bounds.h"
#include "proxy/conn.h"
#include "proxy/inject.h"
#include "proxy/socks.h"
#include "proxy/tunnel.h"
#include "proxy/upstream.h"

struct passage {
    enum passage_kind kind;
    struct judgement judgement;
    struct upstream *upstream;    /* until it is open */
    struct stream client, server; /* once it is open; the server's also while it stands by */
    sb_watch server_first;        /* while it stands by */
    struct tunnel tunnel;
};

/* ---- What the client is told ---- */

static int answer_connect(struct conn *conn, int status, const char *phrase, const char *text)
{
    conn->passage->judgement.record.status = status;
    sb_buf_printf(&conn->wire.out,
                  "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                  "Content-Length: %zu\r\nX-Sbx-Proxy: answer\r\nConnection: close\r\n\r\n%s",
                  status, phrase, strlen(text), text);
    return conn_linger(conn);
}

static int alert(struct conn *conn)
{
    /* RFC 8446 6: a fatal access_denied alert, in the record version that every client reads. */
    static const char access_denied[] = {0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x31};
    sb_buf_append(&conn->wire.out, access_denied, sizeof(access_denied));
    return conn_linger(conn);
}

static int refuse(struct conn *conn, const char *reason)
{
    struct passage *passage = conn->passage;
    struct judgement *judgement = &passage->judgement;
    judgement->record.status = passage->kind == PASSAGE_CONNECT ? 403 : 0;
    judge_refused(conn->proxy, judgement, reason);
    switch (passage->kind) {
    case PASSAGE_CONNECT: {
        SB_CLEANUP(free) char *text = judge_explain(conn->proxy, judgement, reason);
        return answer_connect(conn, 403, "Forbidden", text);
    }
    case PASSAGE_SOCKS:
        socks_write_reply(&conn->wire.out, SOCKS_NOT_ALLOWED);
        return conn_linger(conn);
    case PASSAGE_TLS:
        return alert(conn);
    case PASSAGE_SILENT:
    case PASSAGE_RAW:
        break;
    }
    return STEP_CLOSE;
}

static int unreachable(struct conn *conn, const struct upstream_end *end)
{
    struct passage *passage = conn->passage;
    struct judgement *judgement = &passage->judgement;
    judgement->record.reason = end->reason;
    if (passage->kind == PASSAGE_CONNECT) {
        SB_CLEANUP(free)
        char *text = sb_xasprintf("sbx: cannot reach %s:%u: %s\n", judgement->host.text,
                                  judgement->port, end->error);
        return answer_connect(conn, 502, "Bad Gateway", text);
    }
    if (passage->kind == PASSAGE_SOCKS) {
        socks_write_reply(&conn->wire.out, SOCKS_UNREACHABLE);
        return conn_linger(conn);
    }
    return STEP_CLOSE;
}

static void greet(struct sb_buf *out, enum passage_kind kind)
{
    if (kind == PASSAGE_CONNECT) {
        sb_buf_puts(out, "HTTP/1.1 200 Connection established\r\n\r\n");
    } else if (kind == PASSAGE_SOCKS) {
        socks_write_reply(out, SOCKS_GRANTED);
    }
}

/* ---- The tunnel ---- */

static void on_tunnel_end(void *arg)
{
    conn_doom(arg);
}

static void start_tunnel(struct conn *conn)
{
    struct passage *passage = conn->passage;
    sb_loop_unwatch(conn->proxy->loop, passage->server_first);
    passage->server_first = 0;
    conn->state = CONN_PASSAGE;
    tunnel_start(&passage->tunnel, conn->proxy->loop, &passage->client, &passage->server,
                 on_tunnel_end, conn);
    tunnel_push(&passage->tunnel.down, conn->wire.out.data, conn->wire.out.len);
    tunnel_push(&passage->tunnel.up, conn->wire.in.data, conn->wire.in.len);
    passage->client = wire_release(&conn->wire);
}

static void on_server_first(void *arg, uint32_t events)
{
    (void)events;
    start_tunnel(arg);
}

/* From now on requests and handshakes must be for this place. */
static void pin(struct conn *conn, const struct host *host, uint16_t port)
{
    conn->door.pinned = true;
    conn->door.pinned_name = !host->is_address;
    conn->door.host = *host;
    conn->door.port = port;
    conn->peeked = true; /* no early guess: the client, or the server, has all the time it wants */
    conn->state = CONN_FIRST;
}

static void open_tunnel(struct conn *conn, int fd)
{
    struct passage *passage = conn->passage;
    stream_init(&passage->server, fd);
    if (passage->kind == PASSAGE_TLS || passage->kind == PASSAGE_RAW) {
        start_tunnel(conn);
        return;
    }
    greet(&conn->wire.out, passage->kind);
    pin(conn, &passage->judgement.host, passage->judgement.port);
    wire_deadline(&conn->wire, LIMIT_IDLE_MS);
    passage->server_first = sb_loop_watch(conn->proxy->loop, fd, EPOLLIN, on_server_first, conn);
    if (!passage->server_first) {
        conn_doom(conn);
    }
    wire_wake(&conn->wire);
}

static void on_upstream(void *arg, const struct upstream_end *end)
{
    struct conn *conn = arg;
    int r = STEP_AGAIN;
    if (end->status == UPSTREAM_OK) {
        free(sb_steal(&conn->passage->upstream)); /* an idle tunnel is to be small */
        open_tunnel(conn, end->fd);
    } else if (end->status == UPSTREAM_REFUSED) {
        r = refuse(conn, end->reason);
    } else {
        r = unreachable(conn, end);
    }
    if (r == STEP_CLOSE) {
        conn_doom(conn);
    } else if (end->status != UPSTREAM_OK) {
        wire_wake(&conn->wire);
    }
}

static const char *way_of(const struct conn *conn, enum passage_kind kind)
{
    return conn->door.explicit_proxy ? "forward-bypass"
           : kind == PASSAGE_TLS     ? "transparent"
                                     : "network";
}

/* What the host would get if its secret were known: the log has to say why it is asked in vain. */
static void note_missing(const struct proxy *proxy, struct judgement *judgement)
{
    const char *service = inject_missing(proxy->config->inject, &judgement->host, judgement->port);
    judgement->record.service = service ? sb_xstrdup(service) : NULL;
    judgement->record.unbound = service != NULL;
}

int passage_begin(struct conn *conn, const struct host *host, uint16_t port, enum passage_kind kind)
{
    if (conn->passage) {
        conn->passage->kind = kind;
        start_tunnel(conn);
        return STEP_WAIT;
    }
    struct passage *passage = sb_xcalloc(1, sizeof(*passage));
    bool asked = kind == PASSAGE_CONNECT || kind == PASSAGE_SOCKS;
    passage->kind = kind;
    passage->judgement.host = *host;
    passage->judgement.port = port;
    passage->client.fd = passage->server.fd = -1;
    conn->passage = passage;
    conn->state = CONN_PASSAGE;
    bool allowed = judge(conn->proxy, &passage->judgement, NULL, way_of(conn, kind));
    bool needs_request = passage->judgement.decision.needs_request;
    if (!allowed && !(asked && needs_request)) {
        return refuse(conn, needs_request ? "uninspectable" : NULL);
    }
    if (asked && judge_needs_requests(conn->proxy, host, port)) {
        pin(conn, host, port);
        greet(&conn->wire.out, kind);
        passage_drop(conn);
        wire_deadline(&conn->wire, LIMIT_HEAD_MS);
        return STEP_AGAIN;
    }
    note_missing(conn->proxy, &passage->judgement);
    wire_deadline(&conn->wire, LIMIT_CONNECT_TOTAL_MS + LIMIT_LINGER_MS);
    passage->upstream = sb_xcalloc(1, sizeof(*passage->upstream));
    upstream_connect(passage->upstream, conn->proxy, host, port, &passage->judgement.decision,
                     false, on_upstream, conn);
    return STEP_WAIT;
}

void passage_drop(struct conn *conn)
{
    if (conn->passage) {
        conn->passage->judgement.open = false;
        passage_end(conn);
    }
}

int passage_refuse_tls(struct conn *conn, const char *reason)
{
    passage_drop(conn);
    struct passage *passage = sb_xcalloc(1, sizeof(*passage));
    passage->kind = PASSAGE_TLS;
    passage->judgement.host = conn->door.host;
    passage->judgement.port = conn->door.port;
    passage->client.fd = passage->server.fd = -1;
    conn->passage = passage;
    conn->state = CONN_PASSAGE;
    bool allowed = judge(conn->proxy, &passage->judgement, NULL, way_of(conn, PASSAGE_TLS));
    return refuse(conn, allowed || passage->judgement.decision.needs_request ? reason : NULL);
}

void passage_bad_request(const struct conn *conn, const char *why)
{
    struct record record = {0};
    record_bad_request(&record, way_of(conn, PASSAGE_SOCKS), why);
    record_write(conn->proxy, &record);
}

int passage_step(struct conn *conn)
{
    if (conn->wire.hung_up) {
        conn->passage->judgement.record.reason = "client-gone";
        return STEP_CLOSE;
    }
    return STEP_WAIT;
}

void passage_judge_again(struct conn *conn)
{
    struct passage *passage = conn->passage;
    struct judgement *judgement = &passage->judgement;
    if (!judgement->open) {
        return;
    }
    bool allowed = judge_again(conn->proxy, judgement);
    /* A tunnel of before a credential was bound here: the client's next connection gets it.  What
     * was seen not to be TLS would be a tunnel again. */
    bool blind = passage->kind != PASSAGE_RAW &&
                 judge_needs_requests(conn->proxy, &judgement->host, judgement->port);
    if (blind) {
        judgement->record.reason = "rule-changed";
    }
    if (!allowed || blind) {
        conn_doom(conn);
    }
}

uint64_t passage_moved(const struct conn *conn)
{
    const struct passage *passage = conn->passage;
    return passage ? passage->tunnel.up.bytes + passage->tunnel.down.bytes : 0;
}

void passage_set_reason(struct conn *conn, const char *reason)
{
    if (conn->passage) {
        conn->passage->judgement.record.reason = reason;
    }
}

void passage_end(struct conn *conn)
{
    struct passage *passage = sb_steal(&conn->passage);
    if (!passage) {
        return;
    }
    passage->judgement.record.bytes_up = passage->tunnel.up.bytes;
    passage->judgement.record.bytes_down = passage->tunnel.down.bytes;
    judge_done(conn->proxy, &passage->judgement);
    sb_loop_unwatch(conn->proxy->loop, passage->server_first);
    if (passage->upstream) {
        upstream_cancel(passage->upstream);
        free(passage->upstream);
    }
    tunnel_done(&passage->tunnel);
    stream_close(&passage->client);
    stream_close(&passage->server);
    free(passage);
}
