/* SPDX-License-Identifier: Apache-2.0
 * Names to addresses by c-ares on our loop.  Its files (resolv.conf) are read by resolver_new(),
 * before the process locks itself in. */
#pragma once

#include <netinet/in.h>

#include <jansson.h>

#include "base/loop.h"
#include "policy/host.h"

struct resolver;
struct resolver_query;
/* `n` 0: no address; `error` is then a text. */
typedef void resolver_fn(void *arg, const struct in6_addr *addresses, size_t n, const char *error);

int resolver_new(struct sb_loop *loop, struct resolver **ret, struct sb_err **err);
/* Addresses that need no question: of an address itself, of what `hosts` (name -> address text, the
 * host's own file) knows, and of "localhost".  At most LIMIT_ADDRESSES; returns how many. */
size_t resolver_known(const json_t *hosts, const struct host *host, struct in6_addr *out);
/* The callback comes later or from within this call.  The query is only for resolver_cancel(), and
 * only until the callback. */
void resolver_lookup(struct resolver *resolver, const char *name, resolver_fn *fn, void *arg,
                     struct resolver_query **ret_query);
/* The callback will not be called any more. NULL is ignored. */
void resolver_cancel(struct resolver_query *query);
