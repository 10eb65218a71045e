/* SPDX-License-Identifier: Apache-2.0
 * One request and its answer, whatever versions of HTTP the two sides speak.
 *
 * Theory of operation.  A front (front1.c, front2.c: the sandbox's side) reads a head and opens the
 * exchange: it is judged by the policy of this moment, gets its credential, and is handed to a back
 * (back1.c, back2.c: the origin's side), which link.c finds or connects.  Both bodies are flows:
 * the side that reads appends, the side that writes takes, and each wakes the other; a flow is
 * bounded, and its reader stops when it is full.  A refusal is an answer that we make ourselves, so
 * a front knows no other case.  The front owns the exchange and ends it with exchange_close(),
 * early when the client has gone. */
#pragma once

#include "proxy/flow.h"
#include "proxy/judgement.h"
#include "proxy/proxy.h"

/* What a connection has fixed before its first request: requests must agree with it. */
struct door {
    bool explicit_proxy; /* came to the announced proxy port */
    bool pinned;         /* CONNECT, SOCKS or the address named the host */
    bool pinned_name;    /* ... and it is a name */
    bool secure;         /* TLS was terminated here */
    uint64_t client;     /* which connection of the sandbox this is; none has the same ever again */
    struct host host;
    uint16_t port;
};

/* The word of the log for what comes by it and is read. */
const char *door_way(const struct door *door);

struct exchange;
struct link;
struct origin;

struct front_ops {
    /* x->answer is there: an interim head, or the final one. */
    void (*answer)(struct exchange *x);
    /* x->down has more, x->up has room, or the exchange is broken. */
    void (*wake)(struct exchange *x);
};

struct back_ops {
    /* x->up has more, or x->down has room. */
    void (*wake)(struct exchange *x);
    /* The front does not want the rest. */
    void (*cancel)(struct exchange *x);
};

struct exchange {
    struct proxy *proxy;
    struct exchange *prev, *next; /* of proxy->exchanges */
    const struct front_ops *front;
    void *front_arg;
    struct judgement judgement;
    struct http_message request, answer;
    struct flow up, down;
    const struct inject_rule *credential; /* only to be compared */
    struct needles *scrub;                /* secrets that the answer must not hold, or NULL */
    struct capture *capture;              /* how the answer gives tokens, or NULL */
    uint64_t client;                      /* its connection from the sandbox (struct door) */
    bool secure;
    bool http2_known; /* plain HTTP/2 by prior knowledge, on both sides */
    bool http1_only;  /* an HTTP/2 origin could not do it */
    bool answered;    /* the final head was given to the front */
    bool switched;    /* both flows are bytes of another protocol now */
    bool broken;      /* the rest of the answer will not come */
    bool last;        /* an HTTP/1 connection ends with this answer */
    bool retried;
    unsigned interims; /* heads of 1xx so far */
    /* The origin's side; see link.h. */
    const struct back_ops *back;
    struct origin *origin;
    struct link *link;
    struct exchange *link_prev, *link_next; /* of origin->waiting or link->served */
    int32_t stream[2];                      /* HTTP/2: the origin's and the sandbox's id */
};

/* ---- For fronts ---- */

/* Zeroes but for the front, which the caller sets before; then x->up may already be filled. */
void exchange_init(struct exchange *x, struct proxy *proxy, const struct front_ops *front,
                   void *front_arg);
/* Judges and starts it.  `http2`: the front speaks HTTP/2. */
void exchange_open(struct exchange *x, const struct door *door, const struct http_head *head,
                   bool http2);
/* Answers and logs a request that cannot be judged, since it cannot be read.  `why` is static text.
 */
void exchange_bad_request(struct exchange *x, const struct door *door, const char *why);
/* The request's trailers are there: do they leave alone what its credential sets? */
bool exchange_trailers_fit(const struct exchange *x);
/* Logs a request that was refused before there was an exchange. */
void exchange_log_unread(struct proxy *proxy, const struct door *door, const char *why);
/* Ends it; when it was not complete, `reason` goes to the log (NULL: leaves it). */
void exchange_close(struct exchange *x, const char *reason);
/* x->up has more, or x->down has room, or one of them has failed. */
void exchange_wake_back(struct exchange *x);

/* ---- For backs ---- */

/* The origin's head: interim (1xx) or final.  101 makes both flows raw.  NULL, or why the answer
 * cannot be passed on. */
const char *exchange_answer(struct exchange *x, const struct http_head *head);
void exchange_wake_front(struct exchange *x);
/* The back is through with it: no more calls from there. */
void exchange_detach(struct exchange *x);
/* No connection: the policy forbids every address. */
void exchange_refuse(struct exchange *x, const char *reason);
/* It cannot be completed.  Before the answer's head: 502 with this text. */
void exchange_fail(struct exchange *x, const char *reason, const char *text);
/* Idempotent and without a body: nothing is lost by sending it twice. */
bool exchange_repeatable(const struct exchange *x);
/* The connection was lost before the origin can have begun to answer.  Sends the request again when
 * that is safe (`untouched`: the origin says that it did nothing), else fails. */
void exchange_lost(struct exchange *x, bool untouched, const char *text);

/* The policy has been replaced. */
void exchanges_judge_again(struct proxy *proxy);
/* The credentials are about to be replaced by these: what uses a revoked one ends. */
struct inject_set;
void exchanges_rebind(struct proxy *proxy, const struct inject_set *next);
