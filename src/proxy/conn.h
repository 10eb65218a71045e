/* SPDX-License-Identifier: Apache-2.0
 * One connection from the sandbox, from its first byte to its last.
 *
 * Theory of operation.  conn_run() drives a state machine: each state has one step that does what
 * is possible now and says whether to go on, to wait for the loop, or to close.  All reading goes
 * through `wire.in`; what a step does not use stays there for the next one, so no byte is lost when
 * a CONNECT becomes TLS or a request becomes a tunnel.
 *
 *   FIRST    the first bytes decide: SOCKS or HTTP at the announced port; TLS, HTTP or neither on
 *            redirected connections and behind a CONNECT to a place where requests must be seen
 *   SOCKS    the two messages of SOCKS5
 *   TLS      the handshake with the sandbox
 *   HTTP1    front1.c: one exchange after another
 *   HTTP2    front2.c: many exchanges at once
 *   PASSAGE  passage.c: a tunnel, from its judgement to its end
 *   LINGER   a last answer, then the end
 *
 * Every request is judged by the policy of that moment; nothing learnt from an earlier request of
 * the same connection allows anything. */
#pragma once

#include "proxy/exchange.h"
#include "proxy/wire.h"

enum conn_state {
    CONN_FIRST,
    CONN_SOCKS,
    CONN_TLS,
    CONN_HTTP1,
    CONN_HTTP2,
    CONN_PASSAGE,
    CONN_LINGER,
    CONN_CLOSED
};

/* What a step says. */
enum { STEP_CLOSE = -1, STEP_WAIT = 0, STEP_AGAIN = 1 };

struct front1;
struct front2;
struct passage;

struct conn {
    struct proxy *proxy;
    struct conn *prev, *next;
    enum conn_state state;
    struct door door;
    uint64_t opened_ms;
    uint64_t waits_ms; /* since when it waits for its client to ask for something */
    struct wire wire;
    bool peeked;  /* silence means nothing any more: the client speaks first */
    bool greeted; /* SOCKS: a method was agreed on */
    bool foresaw; /* TLS: what its first request needs has been made ready */
    bool shut;    /* LINGER: we have said that nothing follows */
    struct front1 *front1;
    struct front2 *front2;
    struct passage *passage;
};

/* Takes the descriptor.  `original` is where a redirected connection wanted to go, NULL for the
 * explicit proxy. */
void conn_open(struct proxy *proxy, int fd, const struct in6_addr *original, uint16_t port);
/* The configuration has been replaced: what is no longer allowed ends. */
void conn_judge_again(struct conn *conn);
/* There are too many connections: ends the one that is missed least; false when none has deserved
 * it yet. */
bool conn_make_room(struct proxy *proxy);
/* There are too many requests: lets end the connection with the slowest. */
void conn_make_room_for_request(struct proxy *proxy);
/* Ends every connection, so that each request under way is recorded, with this reason. */
void conn_end_all(struct proxy *proxy, const char *reason);

/* ---- Between the files of a connection ---- */

/* Reads once into wire.in, which grows to at most `max`: bytes, 0 at the end, or -errno. */
ssize_t conn_fill(struct conn *conn, size_t max);
/* wire.out holds the last bytes for the client: they are written, then the connection ends. */
int conn_linger(struct conn *conn);
/* The connection ends when its task runs next. */
void conn_doom(struct conn *conn);
int conn_step_first(struct conn *conn);
/* The client kept silent for LIMIT_PEEK_MS. */
void conn_first_silent(struct conn *conn);
int conn_step_socks(struct conn *conn);
