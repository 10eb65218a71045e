/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/ahead.h"
#include "proxy/bounds.h"
#include "proxy/front1.h"
#include "proxy/front2.h"
#include "proxy/origin.h"
#include "proxy/passage.h"
#include "proxy/server.h"

static void conn_run(void *arg);

static void conn_close(struct conn *conn)
{
    struct proxy *proxy = conn->proxy;
    front1_end(conn);
    front2_end(conn);
    passage_end(conn);
    ahead_drop(proxy, &conn->door);
    wire_close(&conn->wire);
    *(conn->prev ? &conn->prev->next : &proxy->conns) = conn->next;
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    free(conn);
    proxy->nconns--;
    server_conn_closed(proxy);
}

void conn_doom(struct conn *conn)
{
    conn->state = CONN_CLOSED;
    wire_wake(&conn->wire);
}

static bool works(const struct conn *conn)
{
    return front1_works(conn) || front2_works(conn) || conn->passage;
}

/* Bytes a second since it began; UINT64_MAX: it is too young to tell. */
static uint64_t rate_of(const struct conn *conn, uint64_t now_ms)
{
    uint64_t age_ms = now_ms - conn->opened_ms;
    if (age_ms < LIMIT_PRESSED_MS) {
        return UINT64_MAX;
    }
    return (conn->wire.moved + passage_moved(conn)) * 1000 / age_ms;
}

static struct conn *find_waiting(const struct proxy *proxy)
{
    struct conn *found = NULL;
    for (struct conn *conn = proxy->conns; conn; conn = conn->next) {
        if (!works(conn) && (!found || conn->waits_ms <= found->waits_ms)) {
            found = conn; /* the list has the oldest last */
        }
    }
    return found;
}

static struct conn *find_slow(const struct proxy *proxy)
{
    uint64_t now_ms = sb_loop_now_ms(proxy->loop);
    uint64_t slowest = LIMIT_PRESSED_BYTES_A_SECOND;
    struct conn *found = NULL;
    for (struct conn *conn = proxy->conns; conn; conn = conn->next) {
        uint64_t rate = works(conn) && conn->state != CONN_CLOSED ? rate_of(conn, now_ms) : slowest;
        if (rate < slowest) {
            slowest = rate;
            found = conn;
        }
    }
    return found;
}

static void cut_off(struct conn *conn)
{
    front1_cut_off(conn, "too-many");
    front2_cut_off(conn, "too-many");
    passage_set_reason(conn, "too-many");
}

bool conn_make_room(struct proxy *proxy)
{
    struct conn *conn = find_waiting(proxy);
    conn = conn ? conn : find_slow(proxy);
    if (!conn) {
        return false;
    }
    cut_off(conn);
    conn_close(conn);
    return true;
}

void conn_make_room_for_request(struct proxy *proxy)
{
    struct conn *conn = find_slow(proxy);
    if (conn) {
        cut_off(conn);
        conn_doom(conn); /* one of them is running */
    }
}

/* The first one is on a redirected connection that says nothing. */
static void on_late(void *arg)
{
    struct conn *conn = arg;
    if (conn->state == CONN_FIRST && !conn->peeked) {
        conn_first_silent(conn);
        wire_wake(&conn->wire);
    } else {
        conn_doom(conn);
    }
}

ssize_t conn_fill(struct conn *conn, size_t max)
{
    size_t have = conn->wire.in.len;
    if (have >= max) {
        return -ENOBUFS;
    }
    return wire_read(&conn->wire, &conn->wire.in,
                     max - have < LIMIT_HEAD_READ_BYTES ? max - have : LIMIT_HEAD_READ_BYTES);
}

int conn_linger(struct conn *conn)
{
    conn->state = CONN_LINGER;
    wire_deadline(&conn->wire, LIMIT_LINGER_MS);
    return STEP_AGAIN;
}

/* Writes the last answer, then reads and drops until the client closes, so that the kernel does not
 * send a reset that would take the answer away. */
static int step_linger(struct conn *conn)
{
    int r = wire_flush(&conn->wire);
    if (r < 0) {
        return r == -EAGAIN ? STEP_WAIT : STEP_CLOSE;
    }
    if (!conn->shut) {
        conn->shut = true;
        stream_shutdown_write(&conn->wire.stream);
    }
    char data[LIMIT_READ_BYTES];
    ssize_t n = recv(conn->wire.stream.fd, data, sizeof(data), 0);
    conn->wire.readable = n > 0;
    return n > 0 ? STEP_AGAIN : n < 0 && errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
}

/* While the client works on what we have said: the origin is connected, or, where its requests must
 * be seen first, its TLS is set up as far as that goes without a word to it. */
static void foresee(struct conn *conn)
{
    const struct host *host = &conn->door.host;
    if (!conn->foresaw && !origin_is_known(conn->proxy, host) &&
        !ahead_begin(conn->proxy, &conn->door)) {
        tls_foresee(conn->proxy->tls, host->text, host->is_address);
    }
    conn->foresaw = true;
}

static int step_tls(struct conn *conn)
{
    int r = wire_handshake(&conn->wire);
    if (r == -EAGAIN) {
        foresee(conn);
    }
    if (r == 1) {
        return stream_speaks_http2(&conn->wire.stream) ? front2_begin(conn) : front1_begin(conn);
    }
    return r == -EAGAIN ? STEP_WAIT : STEP_CLOSE;
}

static int step(struct conn *conn)
{
    switch (conn->state) {
    case CONN_FIRST:
        return conn_step_first(conn);
    case CONN_SOCKS:
        return conn_step_socks(conn);
    case CONN_TLS:
        return step_tls(conn);
    case CONN_HTTP1:
        return front1_step(conn);
    case CONN_HTTP2:
        return front2_step(conn);
    case CONN_PASSAGE:
        return passage_step(conn);
    case CONN_LINGER:
        return step_linger(conn);
    case CONN_CLOSED:
        break;
    }
    return STEP_CLOSE;
}

static bool wants_read(const struct conn *conn)
{
    return conn->state == CONN_HTTP1 ? front1_reads(conn) : conn->state != CONN_PASSAGE;
}

static void conn_run(void *arg)
{
    struct conn *conn = arg;
    struct wire *wire = &conn->wire;
    int r = STEP_AGAIN;
    if (works(conn)) {
        conn->waits_ms = sb_loop_now_ms(conn->proxy->loop);
    }
    for (int round = 0; r == STEP_AGAIN && round < LIMIT_TURN_ROUNDS; round++) {
        r = step(conn);
    }
    if (r == STEP_CLOSE || conn->state == CONN_CLOSED) {
        conn_close(conn);
        return;
    }
    if (wire->stream.fd < 0) {
        return; /* the tunnel has it */
    }
    int flushed = wire_flush(wire);
    if (flushed < 0 && flushed != -EAGAIN) {
        conn_close(conn);
        return;
    }
    wire_wait(wire, wants_read(conn));
    if (r == STEP_AGAIN) {
        wire_wake(wire); /* others get their turn */
    }
}

void conn_judge_again(struct conn *conn)
{
    if (conn->passage) {
        passage_judge_again(conn);
    }
}

void conn_end_all(struct proxy *proxy, const char *reason)
{
    for (struct exchange *x = proxy->exchanges; x; x = x->next) {
        x->judgement.record.reason = reason;
    }
    while (proxy->conns) {
        passage_set_reason(proxy->conns, reason);
        conn_close(proxy->conns);
    }
}

static bool pin_original(struct conn *conn, const struct in6_addr *original, uint16_t port)
{
    const char *name = NULL;
    struct door *door = &conn->door;
    door->port = port;
    door->pinned = true;
    if (!names_lookup(conn->proxy->names, original, &name)) {
        host_from_address(original, &door->host);
        return true;
    }
    door->pinned_name = true;
    return name && host_parse(name, strlen(name), &door->host, NULL) == 0;
}

void conn_open(struct proxy *proxy, int fd, const struct in6_addr *original, uint16_t port)
{
    static uint64_t count;
    struct conn *conn = sb_xcalloc(1, sizeof(*conn));
    conn->proxy = proxy;
    conn->door.client = ++count;
    wire_open(&conn->wire, proxy->loop, fd, conn_run, on_late, conn);
    conn->next = proxy->conns;
    if (conn->next) {
        conn->next->prev = conn;
    }
    proxy->conns = conn;
    proxy->nconns++;
    conn->state = CONN_FIRST;
    conn->opened_ms = conn->waits_ms = sb_loop_now_ms(proxy->loop);
    if (!original) {
        conn->door.explicit_proxy = conn->peeked = true;
        wire_deadline(&conn->wire, LIMIT_HEAD_MS);
    } else if (pin_original(conn, original, port)) {
        host_map_alias(&conn->door.host);
        wire_deadline(&conn->wire, LIMIT_PEEK_MS);
    } else {
        conn->state = CONN_CLOSED;
    }
    wire_wake(&conn->wire);
}
