/* SPDX-License-Identifier: Apache-2.0
 * One request and its answer, both ways at once; nothing is held beyond LIMIT_BUFFER_BYTES a side.
 */
#include <errno.h>
#include <string.h>

#include "proxy/conn.h"

void conn_exchange_begin(struct conn *conn)
{
    conn->state = CONN_EXCHANGE;
    conn->answer_seen = false;
    conn->server.ready = 0;
    conn->server.body = (struct body){0};
    conn_set_timer(conn, LIMIT_IDLE_MS);
}

/* How many of these bytes belong to the body; -1 when it is malformed. */
static int body_take(struct body *body, const char *data, size_t len, size_t *ret_used)
{
    if (body->kind == HTTP1_BODY_CHUNKED) {
        int r = http1_chunked_scan(&body->scan, data, len, ret_used);
        body->done = r == 1;
        return r < 0 ? -1 : 0;
    }
    *ret_used = len;
    if (body->kind == HTTP1_BODY_LENGTH) {
        *ret_used = len < body->left ? len : (size_t)body->left;
        body->left -= *ret_used;
        body->done = body->left == 0;
    }
    return 0;
}

/* Writes from `buf` at most `len` bytes. 1 wrote, 0 must wait, -1 broken. */
static int push(struct side *to, struct sb_buf *buf, size_t len, uint64_t *count)
{
    ssize_t n = stream_write(&to->stream, buf->data, len);
    to->wants_write |= n == -EAGAIN;
    if (n <= 0) {
        return n == -EAGAIN ? 0 : -1;
    }
    if (count) {
        *count += (uint64_t)n;
    }
    sb_buf_consume(buf, (size_t)n);
    return 1;
}

/* Moves a body one step: 1 moved, 0 must wait (or nothing to do), -1 broken. */
static int move_body(struct side *from, struct side *to, uint64_t *count)
{
    if (from->ready > 0) {
        size_t before = from->in.len;
        int r = push(to, &from->in, from->ready, count);
        from->ready -= before - from->in.len;
        return r;
    }
    if (from->body.done) {
        return 0;
    }
    if (from->in.len == 0) {
        ssize_t n = conn_fill(from, LIMIT_BUFFER_BYTES);
        if (n == 0 && from->body.kind == HTTP1_BODY_UNTIL_CLOSE) {
            from->body.done = true;
            return 1;
        }
        return n > 0 ? 1 : n == -EAGAIN ? 0 : -1;
    }
    return body_take(&from->body, from->in.data, from->in.len, &from->ready) < 0 ? -1 : 1;
}

static int move_up(struct conn *conn)
{
    struct side *client = &conn->client;
    if (client->head.len > 0) {
        int r = push(&conn->server, &client->head, client->head.len, NULL);
        if (client->head.len == 0) {
            sb_buf_wipe(&client->head);
        }
        return r;
    }
    return move_body(client, &conn->server, &conn->record.bytes_up);
}

static int bad_gateway(struct conn *conn, const char *why)
{
    SB_CLEANUP(free)
    char *text = sb_xasprintf("sbx: %s:%u: %s\n", conn->host.text, conn->port, why);
    conn_drop_server(conn);
    conn->record.reason = "upstream";
    conn_answer(conn, 502, "Bad Gateway", text);
    conn_log_end(conn);
    return STEP_AGAIN;
}

/* After 101 both sides speak their own protocol. */
static int switch_protocol(struct conn *conn)
{
    if (!conn->was_upgrade || !conn->client.body.done) {
        return bad_gateway(conn, "the origin switched protocols without being asked");
    }
    return conn_start_tunnel(conn);
}

static int take_answer(struct conn *conn)
{
    struct side *server = &conn->server;
    struct http1_head head;
    const char *why = NULL;
    int r = server->in.len
                ? http1_parse_response(server->in.data, server->in.len, conn->was_head, &head, &why)
                : 0;
    if (r == 0) {
        ssize_t n = conn_fill(server, LIMIT_HEAD_BYTES);
        if (n == -EAGAIN) {
            return STEP_WAIT;
        }
        return n > 0 ? STEP_AGAIN : bad_gateway(conn, "the connection ended before the answer");
    }
    if (r < 0) {
        return bad_gateway(conn, why);
    }
    conn->answer_seen = head.status >= 200;
    conn->record.status = head.status;
    if (conn->answer_seen) {
        server->body = (struct body){.kind = head.body, .left = head.body_length};
        server->body.done = head.body == HTTP1_BODY_NONE ||
                            (head.body == HTTP1_BODY_LENGTH && head.body_length == 0);
        conn->keep &= head.body != HTTP1_BODY_UNTIL_CLOSE;
        server->ended |= !head.keep_alive && server->body.done;
        conn->head_seen = head.keep_alive; /* may the origin's connection be used again? */
    }
    http1_format_head(&server->head, &head, NULL, conn->answer_seen && !conn->keep);
    sb_buf_consume(&server->in, head.head_len);
    return head.status == 101 ? switch_protocol(conn) : STEP_AGAIN;
}

static int finish(struct conn *conn)
{
    bool origin_stays = conn->head_seen && conn->client.body.done && conn->server.in.len == 0;
    conn_log_end(conn);
    if (!conn->keep || !conn->client.body.done) {
        conn->state = CONN_FLUSH;
        conn_drop_server(conn);
        conn_set_timer(conn, LIMIT_LINGER_MS);
        return STEP_AGAIN;
    }
    if (!origin_stays) {
        conn_drop_server(conn);
    }
    conn->state = CONN_HEAD;
    conn->head_timed = false;
    conn_set_timer(conn, LIMIT_IDLE_MS);
    return STEP_AGAIN;
}

static int move_down(struct conn *conn)
{
    struct side *server = &conn->server;
    if (server->head.len > 0) {
        return push(&conn->client, &server->head, server->head.len, NULL);
    }
    if (!conn->answer_seen) {
        return take_answer(conn);
    }
    return move_body(server, &conn->client, &conn->record.bytes_down);
}

int conn_step_exchange(struct conn *conn)
{
    bool request_broken = conn->client.body.kind == HTTP1_BODY_NONE && conn->client.body.left;
    int up = request_broken ? 0 : move_up(conn);
    if (up < 0) {
        if (conn->client.ended && !conn->client.body.done) {
            return STEP_CLOSE;
        }
        /* The origin does not read on: its answer may say why.  The client's rest is not wanted. */
        conn->keep = false;
        sb_buf_wipe(&conn->client.head);
        conn->client.ready = 0;
        conn->client.body = (struct body){.kind = HTTP1_BODY_NONE, .left = 1};
    }
    int down = move_down(conn);
    if (conn->state != CONN_EXCHANGE) {
        return down;
    }
    if (down < 0) {
        conn->record.reason = "cut-off";
        return STEP_CLOSE;
    }
    const struct side *server = &conn->server;
    if (conn->answer_seen && server->body.done && server->ready == 0 && server->head.len == 0) {
        return finish(conn);
    }
    if (up > 0 || down > 0) {
        conn_set_timer(conn, LIMIT_IDLE_MS);
        return STEP_AGAIN;
    }
    return STEP_WAIT;
}
