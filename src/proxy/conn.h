/* SPDX-License-Identifier: Apache-2.0
 * One connection from the sandbox, from its first byte to its last.
 *
 * Theory of operation.  A connection is a state machine that conn_run() drives: each state has one
 * step function that does what is possible now and says whether to go on, to wait for the loop, or
 * to close.  All reading goes through `in`; what a step does not use stays there for the next one,
 * so no byte is lost when a CONNECT becomes TLS or a request becomes a tunnel.
 *
 *   FIRST     the first bytes decide: TLS, HTTP, or neither (redirected connections; after CONNECT
 * to a place where a credential is injected) HANDSHAKE TLS with the sandbox HEAD      a request
 * head, then its judgement CONNECT   waiting for upstream.c;  UP_TLS: TLS with the origin EXCHANGE
 * one request and its answer TUNNEL    tunnel.c has both streams FLUSH     a last answer, then the
 * end
 *
 * Every request is judged by the policy of that moment; nothing learnt from an earlier request of
 * the same connection allows anything. */
#pragma once

#include "proxy/record.h"
#include "proxy/tunnel.h"
#include "proxy/upstream.h"

enum conn_state {
    CONN_FIRST,
    CONN_HANDSHAKE,
    CONN_HEAD,
    CONN_CONNECT,
    CONN_UP_TLS,
    CONN_EXCHANGE,
    CONN_TUNNEL,
    CONN_FLUSH,
};

/* What a step says. */
enum { STEP_CLOSE = -1, STEP_WAIT = 0, STEP_AGAIN = 1 };

/* Where a body is. */
struct body {
    enum http1_body kind;
    uint64_t left;
    struct http1_chunked scan;
    bool done;
};

/* One side: its stream, what was read, and how much of that may go to the other side. */
struct side {
    struct stream stream;
    sb_watch watch;
    struct sb_buf in;
    size_t ready; /* leading bytes of `in` that belong to the body */
    bool ended, wants_read, wants_write;
    struct body body;
    struct sb_buf head; /* to be written to this side's peer before the body; may hold a secret */
};

struct conn {
    struct proxy *proxy;
    struct conn *prev, *next;
    enum conn_state state;
    bool explicit_proxy; /* came to the announced proxy port */
    bool pinned;         /* the host is fixed by CONNECT or by the address: requests must agree */
    bool pinned_name;    /* ... and it is a name */
    bool secure;         /* TLS was terminated here */
    bool tunnel_wanted;  /* CONNECT state leads to TUNNEL */
    bool greeted;        /* CONNECT was answered with 200 already */
    bool running, closed;
    struct host host;
    uint16_t port;
    struct policy_decision decision;
    bool judged;
    struct side client, server;
    struct host server_host; /* whom server.stream is connected to */
    uint16_t server_port;
    bool head_seen, keep, answer_seen, was_head, was_upgrade, head_timed, shut;
    struct upstream upstream;
    struct tunnel tunnel;
    struct record record;
    bool record_open; /* an allowed request or tunnel that is still to be logged */
    struct sb_timer timer, turn;
};

/* Takes the descriptor.  `original` is where a redirected connection wanted to go, NULL for the
 * explicit proxy. */
void conn_open(struct proxy *proxy, int fd, const struct in6_addr *original, uint16_t port);
/* The configuration has been replaced: what is no longer allowed ends. */
void conn_judge_again(struct conn *conn);

/* Between the conn_*.c files. */
void conn_run(struct conn *conn);
/* Reads once into side->in: bytes, 0 at the end, or -errno. */
ssize_t conn_fill(struct side *side, size_t max);
void conn_set_timer(struct conn *conn, uint64_t ms);
/* Answers with a text and then closes. */
int conn_answer(struct conn *conn, int status, const char *reason, const char *text);
/* Judges host and port into conn->decision and starts a record. */
bool conn_judge(struct conn *conn, const char *path);
/* Refuses: logs, and tells the client in the way that its protocol has. */
int conn_refuse(struct conn *conn, const char *reason);
int conn_refuse_tls(struct conn *conn, const char *reason);
void conn_log_end(struct conn *conn);
int conn_step_first(struct conn *conn);
void conn_first_timeout(struct conn *conn);
int conn_step_head(struct conn *conn);
int conn_step_exchange(struct conn *conn);
void conn_exchange_begin(struct conn *conn);
/* Starts connecting; `for_tunnel`: raw bytes follow, no request. */
int conn_reach(struct conn *conn, bool for_tunnel);
int conn_start_tunnel(struct conn *conn);
/* The origin is gone before a request was sent, or after it was finished. */
void conn_drop_server(struct conn *conn);
