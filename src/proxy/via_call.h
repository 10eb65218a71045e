/* SPDX-License-Identifier: Apache-2.0
 * One connection made through the upstream proxy: to the proxy, by TLS where it wants that, and
 * through what it wants to hear before it lets bytes through.  Then it is a socket like any other.
 */
#pragma once

#include "proxy/dial.h"
#include "proxy/proxy.h"
#include "proxy/relay.h"
#include "proxy/via.h"

struct via_end {
    int fd;             /* the caller's; -1: it failed */
    const char *reason; /* static: the word for the log */
    const char *error;  /* for people, with what can be done; valid during the call */
};
typedef void via_call_fn(void *arg, const struct via_end *end);

struct via_call {
    struct proxy *proxy; /* NULL: nothing under way */
    struct via *via;
    struct host target;
    uint16_t port;
    bool forwards;
    const struct via_stage *stage;
    struct resolver_query *query;
    struct dial dial;
    struct relay *relay;
    int fd;
    sb_watch watch;
    struct sb_buf out, in;
    via_call_fn *fn;
    void *arg;
};

/* `forwards`: the connection is for requests to the proxy itself, which passes them on. */
void via_call_start(struct via_call *call, struct proxy *proxy, struct via *via,
                    const struct host *target, uint16_t port, bool forwards, via_call_fn *fn,
                    void *arg);
/* Stops; the callback will not come.  Safe on a zeroed or finished one. */
void via_call_cancel(struct via_call *call);
/* The text about an answer 407, which the proxy may also give to a request that it passes on. */
char *via_password_text(const struct via *via);
