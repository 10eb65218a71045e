/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/upstream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/msg.h"

void upstream_cancel(struct upstream *upstream)
{
    if (!upstream->proxy) {
        return;
    }
    struct sb_loop *loop = upstream->proxy->loop;
    resolver_cancel(upstream->query);
    sb_loop_unwatch(loop, upstream->watch);
    sb_loop_timer_stop(loop, &upstream->try_timer);
    sb_loop_timer_stop(loop, &upstream->total_timer);
    if (upstream->fd >= 0) {
        close(upstream->fd);
    }
    upstream->fd = -1;
    upstream->proxy = NULL;
}

static void finish(struct upstream *upstream, enum upstream_status status, const char *error)
{
    int fd = -1;
    if (status == UPSTREAM_OK) {
        sb_loop_unwatch(upstream->proxy->loop, upstream->watch);
        upstream->watch = 0;
        fd = sb_steal_fd(&upstream->fd);
    }
    upstream_cancel(upstream);
    upstream->fn(upstream->arg, status, fd, error);
}

static int start_connect(const struct in6_addr *address, uint16_t port)
{
    bool v4 = IN6_IS_ADDR_V4MAPPED(address);
    SB_CLEANUP(fd)
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    memcpy(&in.sin_addr, &address->s6_addr[12], sizeof(in.sin_addr));
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *address};
    int r = v4 ? connect(fd, (const struct sockaddr *)&in, sizeof(in))
               : connect(fd, (const struct sockaddr *)&in6, sizeof(in6));
    if (r < 0 && errno != EINPROGRESS) {
        return -errno;
    }
    return sb_steal_fd(&fd);
}

static void try_next(struct upstream *upstream);

static void abandon_try(struct upstream *upstream, int errnum)
{
    sb_loop_unwatch(upstream->proxy->loop, upstream->watch);
    sb_loop_timer_stop(upstream->proxy->loop, &upstream->try_timer);
    upstream->watch = 0;
    close(upstream->fd);
    upstream->fd = -1;
    upstream->last_errno = errnum;
    try_next(upstream);
}

static void on_try_timeout(void *arg)
{
    abandon_try(arg, ETIMEDOUT);
}

static void on_total_timeout(void *arg)
{
    finish(arg, UPSTREAM_FAILED, strerror(ETIMEDOUT));
}

static void on_connected(void *arg, uint32_t events)
{
    (void)events;
    struct upstream *upstream = arg;
    int errnum = 0;
    socklen_t len = sizeof(errnum);
    if (getsockopt(upstream->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0) {
        errnum = errno;
    }
    if (errnum) {
        abandon_try(upstream, errnum);
    } else {
        finish(upstream, UPSTREAM_OK, NULL);
    }
}

/* "localhost" is the host's loopback by intention; everywhere else a loopback address is an attack,
 * unless the user pinned the name to it. */
static bool permitted(const struct upstream *upstream, const struct in6_addr *address)
{
    const struct policy *policy = upstream->proxy->config->policy;
    if (strcmp(upstream->host.text, "localhost") == 0) {
        return upstream->decision->exact;
    }
    return upstream->pinned
               ? policy_allows_pinned(policy, upstream->decision, address, upstream->port)
               : policy_allows_address(policy, upstream->decision, address, upstream->port);
}

static void try_next(struct upstream *upstream)
{
    while (upstream->next < upstream->count) {
        const struct in6_addr *address = &upstream->addresses[upstream->next++];
        if (!permitted(upstream, address)) {
            continue;
        }
        upstream->any_permitted = true;
        int fd = start_connect(address, upstream->port);
        if (fd < 0) {
            upstream->last_errno = -fd;
            continue;
        }
        struct sb_loop *loop = upstream->proxy->loop;
        upstream->fd = fd;
        upstream->watch = sb_loop_watch(loop, fd, EPOLLOUT, on_connected, upstream);
        sb_loop_timer(loop, &upstream->try_timer, LIMIT_CONNECT_MS, on_try_timeout, upstream);
        return;
    }
    if (!upstream->any_permitted) {
        finish(upstream, UPSTREAM_REFUSED, "the policy forbids every address of this name");
    } else {
        finish(upstream, UPSTREAM_FAILED, strerror(upstream->last_errno));
    }
}

static void on_resolved(void *arg, const struct in6_addr *addresses, size_t n, const char *error)
{
    struct upstream *upstream = arg;
    upstream->query = NULL;
    if (n == 0) {
        finish(upstream, UPSTREAM_FAILED, error);
        return;
    }
    memcpy(upstream->addresses, addresses, n * sizeof(*addresses));
    upstream->count = n;
    try_next(upstream);
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

/* Addresses that are known without asking. */
static size_t known_addresses(struct upstream *upstream, struct in6_addr *out)
{
    if (upstream->host.is_address) {
        out[0] = upstream->host.address;
        return 1;
    }
    if (find_pin(upstream, out)) {
        return 1;
    }
    const char *known = sb_json_str(upstream->proxy->config->hosts, upstream->host.text);
    struct host host;
    if (known && host_parse(known, strlen(known), &host, NULL) == 0 && host.is_address) {
        out[0] = host.address;
        return 1;
    }
    if (strcmp(upstream->host.text, "localhost") == 0) {
        inet_pton(AF_INET6, "::ffff:127.0.0.1", &out[0]);
        out[1] = in6addr_loopback;
        return 2;
    }
    return 0;
}

void upstream_connect(struct upstream *upstream, struct proxy *proxy, const struct host *host,
                      uint16_t port, struct policy_decision *decision, upstream_fn *fn, void *arg)
{
    *upstream = (struct upstream){.proxy = proxy,
                                  .host = *host,
                                  .port = port,
                                  .decision = decision,
                                  .fd = -1,
                                  .last_errno = EHOSTUNREACH,
                                  .fn = fn,
                                  .arg = arg};
    sb_loop_timer(proxy->loop, &upstream->total_timer, LIMIT_CONNECT_TOTAL_MS, on_total_timeout,
                  upstream);
    upstream->count = known_addresses(upstream, upstream->addresses);
    if (upstream->count) {
        try_next(upstream);
    } else {
        resolver_lookup(proxy->resolver, host->text, on_resolved, upstream, &upstream->query);
    }
}
