/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/msg.h"
#include "proxy/bounds.h"

enum { RESOLVER_SOCKETS = 16 };

struct resolver_socket {
    struct resolver *resolver;
    int fd;
    sb_watch watch; /* 0: slot is free */
};

struct resolver {
    struct sb_loop *loop;
    ares_channel channel;
    struct sb_timer timer;
    struct resolver_socket sockets[RESOLVER_SOCKETS];
};

struct resolver_query {
    resolver_fn *fn; /* NULL: cancelled */
    void *arg;
};

static void arm_timer(struct resolver *resolver);

static void on_timer(void *arg)
{
    struct resolver *resolver = arg;
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm_timer(resolver);
}

static void arm_timer(struct resolver *resolver)
{
    struct timeval max = {.tv_sec = 5}, tv;
    if (!ares_timeout(resolver->channel, NULL, &tv)) {
        sb_loop_timer_stop(resolver->loop, &resolver->timer);
        return;
    }
    const struct timeval *next = ares_timeout(resolver->channel, &max, &tv);
    uint64_t wait_ms = (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1;
    sb_loop_timer(resolver->loop, &resolver->timer, wait_ms, on_timer, resolver);
}

static void on_socket(void *arg, uint32_t events)
{
    const struct resolver_socket *s = arg;
    struct resolver *resolver = s->resolver;
    int fd = s->fd;
    ares_process_fd(resolver->channel, events & ~(uint32_t)EPOLLOUT ? fd : ARES_SOCKET_BAD,
                    events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
    arm_timer(resolver);
}

static struct resolver_socket *socket_slot(struct resolver *resolver, int fd)
{
    struct resolver_socket *unused = NULL;
    for (size_t i = 0; i < RESOLVER_SOCKETS; i++) {
        struct resolver_socket *s = &resolver->sockets[i];
        if (s->watch && s->fd == fd) {
            return s;
        }
        unused = s->watch ? unused : s;
    }
    return unused;
}

/* c-ares: this socket is to be watched so; neither means that it is about to be closed. A socket
 * without a slot is not watched: its query times out and is tried again. */
static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct resolver *resolver = arg;
    struct resolver_socket *s = socket_slot(resolver, fd);
    if (!s) {
        return;
    }
    uint32_t events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0);
    if (!events) {
        sb_loop_unwatch(resolver->loop, s->watch);
        s->watch = 0;
    } else if (s->watch) {
        sb_loop_modify(resolver->loop, s->watch, events);
    } else {
        *s = (struct resolver_socket){.resolver = resolver, .fd = fd};
        s->watch = sb_loop_watch(resolver->loop, fd, events, on_socket, s);
    }
}

int resolver_new(struct sb_loop *loop, struct resolver **ret, struct sb_err **err)
{
    struct resolver *resolver = sb_xcalloc(1, sizeof(*resolver));
    resolver->loop = loop;
    /* Only DNS: the hosts file comes with the configuration. */
    char lookups[] = "b";
    struct ares_options options = {.sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = resolver,
                                   .lookups = lookups,
                                   .timeout = 2000,
                                   .tries = 3};
    int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES;
    int status = ares_library_init(ARES_LIB_INIT_ALL);
    status = status ? status : ares_init_options(&resolver->channel, &options, mask);
    if (status != ARES_SUCCESS) {
        free(resolver);
        return sb_fail(err, SB_EFAIL, "cannot set up name resolution: %s", ares_strerror(status));
    }
    *ret = resolver;
    return 0;
}

static size_t copy_addresses(const struct ares_addrinfo *info, struct in6_addr *out)
{
    size_t n = 0;
    for (const struct ares_addrinfo_node *node = info->nodes; node && n < LIMIT_ADDRESSES;
         node = node->ai_next) {
        struct in6_addr address = {0};
        if (node->ai_family == AF_INET) {
            struct sockaddr_in in;
            memcpy(&in, node->ai_addr, sizeof(in));
            memset(&address.s6_addr[10], 0xff, 2);
            memcpy(&address.s6_addr[12], &in.sin_addr, sizeof(in.sin_addr));
        } else if (node->ai_family == AF_INET6) {
            struct sockaddr_in6 in6;
            memcpy(&in6, node->ai_addr, sizeof(in6));
            address = in6.sin6_addr;
        } else {
            continue;
        }
        out[n++] = address;
    }
    return n;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    (void)timeouts;
    struct resolver_query *query = arg;
    struct in6_addr addresses[LIMIT_ADDRESSES];
    size_t n = status == ARES_SUCCESS && info ? copy_addresses(info, addresses) : 0;
    ares_freeaddrinfo(info);
    resolver_fn *fn = query->fn;
    void *fn_arg = query->arg;
    free(query);
    if (fn) {
        fn(fn_arg, addresses, n, n ? NULL : ares_strerror(status ? status : ARES_ENODATA));
    }
}

size_t resolver_known(const json_t *hosts, const struct host *host, struct in6_addr *out)
{
    const char *text = sb_json_str(hosts, host->text);
    struct host known;
    if (host->is_address) {
        out[0] = host->address;
        return 1;
    }
    if (text && host_parse(text, strlen(text), &known, NULL) == 0 && known.is_address) {
        out[0] = known.address;
        return 1;
    }
    if (strcmp(host->text, "localhost") == 0) {
        inet_pton(AF_INET6, "::ffff:127.0.0.1", &out[0]);
        out[1] = in6addr_loopback;
        return 2;
    }
    return 0;
}

void resolver_lookup(struct resolver *resolver, const char *name, resolver_fn *fn, void *arg,
                     struct resolver_query **ret_query)
{
    struct resolver_query *query = sb_xcalloc(1, sizeof(*query));
    *query = (struct resolver_query){.fn = fn, .arg = arg};
    /* Before the call: the callback may come from within and clear it. */
    *ret_query = query;
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_flags = ARES_AI_NOSORT};
    ares_getaddrinfo(resolver->channel, name, NULL, &hints, on_answer, query);
    arm_timer(resolver);
}

void resolver_cancel(struct resolver_query *query)
{
    if (query) {
        query->fn = NULL;
    }
}
