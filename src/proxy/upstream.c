/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/upstream.h"

#include <errno.h>
#include <string.h>

#include "base/msg.h"

void upstream_cancel(struct upstream *upstream)
{
    if (!upstream->proxy) {
        return;
    }
    struct sb_loop *loop = upstream->proxy->loop;
    resolver_cancel(upstream->query);
    via_call_cancel(&upstream->call);
    dial_cancel(&upstream->dial);
    sb_loop_timer_stop(loop, &upstream->local_timer);
    sb_loop_timer_stop(loop, &upstream->total_timer);
    via_unref(upstream->via);
    upstream->via = NULL;
    upstream->proxy = NULL;
}

static void finish(struct upstream *upstream, const struct upstream_end *end)
{
    upstream_cancel(upstream);
    upstream->fn(upstream->arg, end);
}

static void refuse(struct upstream *upstream)
{
    finish(upstream, &(struct upstream_end){.status = UPSTREAM_REFUSED, .reason = "address"});
}

static void fail(struct upstream *upstream, const char *reason, const char *error)
{
    finish(upstream,
           &(struct upstream_end){.status = UPSTREAM_FAILED, .reason = reason, .error = error});
}

static void on_total_timeout(void *arg)
{
    struct upstream *upstream = arg;
    if (!upstream->via) {
        fail(upstream, "unreachable", strerror(ETIMEDOUT));
        return;
    }
    SB_CLEANUP(free)
    char *error = sb_xasprintf("%s did not make the connection in time", upstream->via->name);
    fail(upstream, "proxy-unreachable", error);
}

/* "localhost" is the host's loopback by intention; everywhere else a loopback address is an attack,
 * unless the user pinned the name to it. */
static bool permitted(void *arg, const struct in6_addr *address)
{
    struct upstream *upstream = arg;
    const struct policy *policy = upstream->proxy->config->policy;
    bool yes;
    if (strcmp(upstream->host.text, "localhost") == 0) {
        yes = upstream->decision->exact;
    } else if (upstream->pinned) {
        yes = policy_allows_pinned(policy, upstream->decision, address, upstream->port);
    } else {
        yes = policy_allows_address(policy, upstream->decision, address, upstream->port);
    }
    upstream->any_permitted |= yes;
    return yes;
}

/* ---- Directly ---- */

static void on_dialled(void *arg, int fd, int errnum)
{
    struct upstream *upstream = arg;
    if (fd >= 0) {
        finish(upstream, &(struct upstream_end){.status = UPSTREAM_OK, .fd = fd});
    } else if (!upstream->any_permitted) {
        refuse(upstream);
    } else {
        fail(upstream, "unreachable", strerror(errnum ? errnum : EHOSTUNREACH));
    }
}

/* ---- Through the upstream proxy ---- */

static void ask_for_next(struct upstream *upstream);

static void on_call(void *arg, const struct via_end *end)
{
    struct upstream *upstream = arg;
    /* Of several addresses another may be one that the proxy can reach. */
    bool again = end->fd < 0 && strcmp(end->reason, "proxy-refused") == 0;
    if (end->fd >= 0) {
        bool takes = upstream->for_requests && via_takes_requests(upstream->via);
        struct via *via = via_ref(upstream->via); /* until the callback has taken it */
        finish(upstream, &(struct upstream_end){
                             .status = UPSTREAM_OK, .fd = end->fd, .taker = takes ? via : NULL});
        via_unref(via);
    } else if (again && !via_resolves(upstream->via) && upstream->next < upstream->count) {
        ask_for_next(upstream);
    } else {
        fail(upstream, end->reason, end->error);
    }
}

static void ask_for(struct upstream *upstream, const struct host *target)
{
    bool forwards = upstream->for_requests && via_takes_requests(upstream->via);
    via_call_start(&upstream->call, upstream->proxy, upstream->via, target, upstream->port,
                   forwards, on_call, upstream);
}

/* socks5: the judged address is asked for, not the name. */
static void ask_for_next(struct upstream *upstream)
{
    while (upstream->next < upstream->count) {
        const struct in6_addr *address = &upstream->addresses[upstream->next++];
        if (permitted(upstream, address)) {
            struct host target;
            host_from_address(address, &target);
            ask_for(upstream, &target);
            return;
        }
    }
    refuse(upstream);
}

/* The upstream resolves the name again and may choose any answer, so each must be permitted. */
static void ask_for_name(struct upstream *upstream)
{
    for (size_t i = 0; i < upstream->count; i++) {
        if (!permitted(upstream, &upstream->addresses[i])) {
            refuse(upstream);
            return;
        }
    }
    ask_for(upstream, &upstream->host);
}

/* Nobody here knows the name.  In many company networks that is so for every name outside, so the
 * upstream, which will look it up, is the one to judge its address: but names that only private
 * networks have are opened as private addresses are. */
static void ask_unresolved(struct upstream *upstream)
{
    if (policy_allows_unresolved(upstream->decision, &upstream->host)) {
        ask_for(upstream, &upstream->host);
    } else {
        refuse(upstream);
    }
}

/* ---- The way ---- */

/* An answer that means this machine or its link is never given to another one: it is judged as
 * without an upstream proxy, and refused but where the user named that very address. */
static bool leads_near(const struct upstream *upstream)
{
    for (size_t i = 0; i < upstream->count; i++) {
        enum address_class class = address_classify(&upstream->addresses[i]);
        if (class != ADDRESS_PUBLIC && class != ADDRESS_PRIVATE) {
            return true;
        }
    }
    return false;
}

static void go(struct upstream *upstream)
{
    if (upstream->via && leads_near(upstream)) {
        via_unref(sb_steal(&upstream->via));
    }
    if (!upstream->via) {
        dial_start(&upstream->dial, upstream->proxy->loop, upstream->addresses, upstream->count,
                   upstream->port, permitted, on_dialled, upstream);
    } else if (via_resolves(upstream->via)) {
        ask_for_name(upstream);
    } else {
        ask_for_next(upstream);
    }
}

static void on_local_timeout(void *arg)
{
    struct upstream *upstream = arg;
    resolver_cancel(sb_steal(&upstream->query));
    ask_unresolved(upstream);
}

static void on_resolved(void *arg, const struct in6_addr *addresses, size_t n, const char *error)
{
    struct upstream *upstream = arg;
    upstream->query = NULL;
    sb_loop_timer_stop(upstream->proxy->loop, &upstream->local_timer);
    if (n) {
        memcpy(upstream->addresses, addresses, n * sizeof(*addresses));
        upstream->count = n;
        go(upstream);
    } else if (upstream->via && via_resolves(upstream->via)) {
        ask_unresolved(upstream);
    } else {
        fail(upstream, "unreachable", error);
    }
}

/* Where the user pinned the name to, perhaps with a port of its own. */
static bool find_pin(struct upstream *upstream, struct in6_addr *out)
{
    const char *pin = sb_json_str(upstream->proxy->config->pins, upstream->host.text);
    struct host host;
    if (!pin) {
        return false;
    }
    /* It has been checked when the configuration was read. */
    host_parse_authority(pin, strlen(pin), upstream->port, &host, &upstream->port, NULL);
    upstream->pinned = true;
    *out = host.address;
    return true;
}

static void look_up(struct upstream *upstream)
{
    struct proxy *proxy = upstream->proxy;
    if (upstream->via && via_resolves(upstream->via)) {
        sb_loop_timer(proxy->loop, &upstream->local_timer, LIMIT_LOCAL_NAME_MS, on_local_timeout,
                      upstream);
    }
    resolver_lookup(proxy->resolver, upstream->host.text, on_resolved, upstream, &upstream->query);
}

void upstream_connect(struct upstream *upstream, struct proxy *proxy, const struct host *host,
                      uint16_t port, struct policy_decision *decision, bool for_requests,
                      upstream_fn *fn, void *arg)
{
    *upstream = (struct upstream){.proxy = proxy,
                                  .host = *host,
                                  .port = port,
                                  .decision = decision,
                                  .for_requests = for_requests,
                                  .fn = fn,
                                  .arg = arg};
    sb_loop_timer(proxy->loop, &upstream->total_timer, LIMIT_CONNECT_TOTAL_MS, on_total_timeout,
                  upstream);
    struct via *via = proxy->config->via;
    if (find_pin(upstream, upstream->addresses)) {
        upstream->count = 1;
    } else {
        upstream->via = via && via_serves(via, host, port) ? via_ref(via) : NULL;
        upstream->count = resolver_known(proxy->config->hosts, host, upstream->addresses);
    }
    if (upstream->count) {
        go(upstream);
    } else {
        look_up(upstream);
    }
}
