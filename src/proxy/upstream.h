/* SPDX-License-Identifier: Apache-2.0
 * A connection to the outside: resolve once, judge every address, connect to exactly that one.
 *
 * It is the only place that opens a connection from the host's network. */
#pragma once

#include "policy/policy.h"
#include "proxy/bounds.h"
#include "proxy/proxy.h"

enum upstream_status {
    UPSTREAM_OK,
    UPSTREAM_REFUSED, /* the policy forbids every address of the name */
    UPSTREAM_FAILED,
};
/* `fd` is the caller's when UPSTREAM_OK; `error` is a text otherwise, valid during the call. */
typedef void upstream_fn(void *arg, enum upstream_status status, int fd, const char *error);

struct upstream {
    struct proxy *proxy;
    struct host host;
    uint16_t port;
    struct policy_decision *decision; /* the owner's, kept current over reloads */
    struct resolver_query *query;
    struct in6_addr addresses[LIMIT_ADDRESSES];
    size_t count, next;
    bool any_permitted, pinned;
    int fd, last_errno;
    sb_watch watch;
    struct sb_timer try_timer, total_timer;
    upstream_fn *fn;
    void *arg;
};

/* The callback comes from the loop or from within. */
void upstream_connect(struct upstream *upstream, struct proxy *proxy, const struct host *host,
                      uint16_t port, struct policy_decision *decision, upstream_fn *fn, void *arg);
/* Stops; the callback will not come. Safe on a zeroed or finished upstream. */
void upstream_cancel(struct upstream *upstream);
