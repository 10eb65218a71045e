/* SPDX-License-Identifier: Apache-2.0
 * Origins: what may share a connection, found by scheme, host, port, the rule that allowed the way
 * there and the credential.
 *
 * An origin owns its links and what waits for one; it outlives them for its TLS session, as long as
 * it is among the last used ones (LIMIT_ORIGINS).  One that is retired is found by no request. */
#pragma once

#include "proxy/exchange.h"

struct ahead;
struct link;
struct ssl_session_st;

struct origin {
    struct proxy *proxy;
    struct origin *prev, *next; /* of all, the last used one first */
    struct origin *same;        /* of those in its bucket */
    /* The key, with the host below. */
    const struct policy_rule *rule;       /* only to be compared */
    const struct inject_rule *credential; /* only to be compared */
    uint16_t port;
    bool secure, http1_only, http2_known;
    bool retired;
    struct ahead *ahead; /* its link is for a request that has not come yet, whose credential will
                            be its own; NULL: it has had requests */
    /* What it was found to speak; without knowing, one connection is made and the others wait. */
    enum { ORIGIN_UNKNOWN, ORIGIN_HTTP1, ORIGIN_HTTP2 } speaks;
    struct link *links;
    struct exchange *waiting, *waiting_last;
    struct ssl_session_st *session; /* to be resumed */
    struct host host;
};

/* The exchange's origin, made when there is none yet. */
struct origin *origin_of(struct exchange *x);
/* A new one for what is connected ahead, which it owns.  A request of that client takes it over. */
struct origin *origin_ahead(struct proxy *proxy, struct ahead *ahead);
/* The one that was made for this client ahead, or NULL. */
struct origin *origin_ahead_of(struct proxy *proxy, const struct host *host, uint64_t client);
/* Is there one of this host, whatever else its key says? */
bool origin_is_known(struct proxy *proxy, const struct host *host);
/* Nobody uses it any more. */
void origin_free(struct origin *origin);
/* Frees those that are retired and unused. */
void origins_forget_retired(struct proxy *proxy);
