/* SPDX-License-Identifier: Apache-2.0
 * The upstream proxy: which one, and what goes there.
 *
 * The policy decides first, as without it.  What is judged of addresses then (upstream.c): with
 * socks5 the name is resolved here and the judged address is asked for.  With http, https and
 * socks5h the upstream resolves: a name is resolved here as well where that is possible, and is
 * refused when an answer is not permitted; a name that nobody here knows is the upstream's to
 * judge, unless it is one that only private networks have.  It is counted, so that a connection
 * under way outlives a new configuration. */
#pragma once

#include <jansson.h>

#include "settings/no_proxy.h"
#include "settings/proxy_url.h"

struct via {
    unsigned refs;
    struct proxy_url url; /* never PROXY_DIRECT */
    struct no_proxy *no_proxy;
    char *name;          /* for people: "the upstream proxy http://proxy:3128 (HTTPS_PROXY)" */
    char *authorization; /* value of Proxy-Authorization, or NULL; a secret */
};

/* {"url","no_proxy","from"}. */
int via_from_json(const json_t *json, struct via **ret, struct sb_err **err);
struct via *via_ref(struct via *via);
/* NULL is ignored. */
void via_unref(struct via *via);
/* Do connections to this place go there?  Never those to this machine, to its link, or to a name
 * that means one of them. */
bool via_serves(const struct via *via, const struct host *host, uint16_t port);
/* Does the upstream turn names into addresses? */
bool via_resolves(const struct via *via);
/* Does it take HTTP requests that are not for itself (RFC 9112 3.2.2)? */
bool via_takes_requests(const struct via *via);
