/* SPDX-License-Identifier: Apache-2.0
 * A connection to the outside: resolve once, judge every address, connect to exactly that one, or
 * through the upstream proxy (via.h). */
#pragma once

#include "policy/policy.h"
#include "proxy/via_call.h"

enum upstream_status {
    UPSTREAM_OK,
    UPSTREAM_REFUSED, /* the policy forbids every address of the name */
    UPSTREAM_FAILED,
};
struct upstream_end {
    enum upstream_status status;
    int fd; /* the caller's when UPSTREAM_OK */
    struct via
        *taker; /* UPSTREAM_OK: the proxy takes the requests itself; NULL: this is the host */
    const char *reason; /* else static: the word for the log */
    const char *error;  /* else a text, valid during the call */
};
typedef void upstream_fn(void *arg, const struct upstream_end *end);

struct upstream {
    struct proxy *proxy;
    struct host host;
    uint16_t port;
    struct policy_decision *decision; /* the owner's, kept current over reloads */
    struct resolver_query *query;
    struct in6_addr addresses[LIMIT_ADDRESSES];
    size_t count, next;
    bool any_permitted, pinned, for_requests;
    struct via *via; /* NULL: directly */
    struct via_call call;
    struct dial dial;
    struct sb_timer local_timer, total_timer;
    upstream_fn *fn;
    void *arg;
};

/* `for_requests`: plain HTTP requests alone will pass, so that a proxy may take them itself.  The
 * callback comes from the loop or from within. */
void upstream_connect(struct upstream *upstream, struct proxy *proxy, const struct host *host,
                      uint16_t port, struct policy_decision *decision, bool for_requests,
                      upstream_fn *fn, void *arg);
/* Stops; the callback will not come. Safe on a zeroed or finished upstream. */
void upstream_cancel(struct upstream *upstream);
