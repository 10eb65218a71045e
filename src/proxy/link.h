/* SPDX-License-Identifier: Apache-2.0
 * Connections to origins, kept and used again.
 *
 * A link is a connection of an origin (origin.h): an HTTP/1 link serves one exchange at a time, an
 * HTTP/2 link many.  What waits for a link waits in its origin.  A new configuration retires every
 * origin: idle links close, busy ones close when they are through, and no later request uses them.
 *
 * Some logins hold for the connection, not for the request (NTLM, Negotiate).  Who sends one binds
 * the link that it goes to: from then on it serves no other connection of the sandbox. */
#pragma once

#include "proxy/back1.h"
#include "proxy/exchange.h"
#include "proxy/h2.h"
#include "proxy/origin.h"
#include "proxy/upstream.h"
#include "proxy/wire.h"

enum link_state { LINK_CONNECTING, LINK_TLS, LINK_HTTP1, LINK_HTTP2, LINK_CLOSED };

struct link {
    struct proxy *proxy;
    struct origin *origin;
    struct link *prev, *next;
    struct link *idle_prev,
        *idle_next; /* of all that serve nobody, the one that waits longest first */
    enum link_state state;
    struct policy_decision decision; /* while connecting */
    struct upstream *upstream;       /* while connecting */
    struct via *taker; /* the upstream proxy takes the requests themselves; NULL: the origin does */
    struct wire wire;
    struct exchange *served;
    size_t nserved;
    uint64_t bound; /* it may be signed in (NTLM, Negotiate) for this client alone; 0: for nobody */
    bool used;      /* it has waited for a request: its far end may have closed it by now */
    struct back1 h1;
    struct h2 *h2;
};

/* Finds or makes a link for the exchange, now or later. */
void link_request(struct exchange *x);
/* Makes one for an origin whose request has not come yet (ahead.h). */
void link_ahead(struct origin *origin);
/* The exchange leaves its link, or the queue for one. */
void link_forget(struct exchange *x);
/* For the backs: the link has room for another exchange, is of no use any more, or has failed for
 * all that it serves (`untouched`: nothing of theirs was done). */
void link_free_again(struct link *link);
void link_close(struct link *link);
void link_fail(struct link *link, const char *error);
/* The upstream proxy, which takes the requests itself, wants other credentials. */
void link_fail_password(struct link *link);

/* The configuration has been replaced. */
void origins_retire(struct proxy *proxy);
