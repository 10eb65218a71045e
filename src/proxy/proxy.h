/* SPDX-License-Identifier: Apache-2.0
 * What the parts of the running proxy share: one sandbox, one process, one loop. */
#pragma once

#include "base/buf.h"
#include "base/loop.h"
#include "proxy/config.h"
#include "proxy/names.h"
#include "proxy/resolver.h"
#include "proxy/tls.h"

struct conn;
struct exchange;
struct link;
struct origin;
struct dns_server;
struct journal;

enum listener_kind {
    LISTEN_HTTP,
    LISTEN_TCP4,
    LISTEN_TCP6,
    LISTEN_DNS_UDP,
    LISTEN_DNS_TCP,
    LISTEN_REFUSED, /* not accepted from: it tells (refused.h) */
    LISTEN_N
};

enum { ORIGIN_BUCKETS = 256 }; /* as many as are remembered without a connection */

struct listener {
    struct proxy *proxy;
    enum listener_kind kind;
    int fd; /* -1: absent */
    sb_watch watch;
};

struct proxy {
    struct sb_loop *loop;
    struct config *config; /* NULL until the first one came: nothing is served before */
    struct resolver *resolver;
    struct names *names;
    struct tls *tls;
    struct listener listeners[LISTEN_N];
    struct dns_server *dns;
    struct conn *conns; /* doubly linked */
    size_t nconns;
    struct exchange *exchanges; /* doubly linked */
    size_t nexchanges;
    size_t window_extra;                   /* of all flows: what HTTP/2 windows have grown by */
    struct origin *origins, *origins_last; /* doubly linked, the last used one first */
    struct origin *origin_buckets[ORIGIN_BUCKETS];
    size_t norigins;
    struct link *idle_first, *idle_last; /* to origins, serve nobody; the oldest of these first */
    size_t nidle;
    size_t nahead; /* of links whose request has not come yet (ahead.h) */
    struct sb_timer accept_retry;
    struct journal *journal;
    int token_keeper; /* the supervisor's socket for tokens, -1: none */
};
