/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"

/* Ends the try under way. */
static void drop(struct dial *dial)
{
    sb_loop_unwatch(dial->loop, dial->watch);
    sb_loop_timer_stop(dial->loop, &dial->timer);
    dial->watch = 0;
    if (dial->fd >= 0) {
        close(sb_steal_fd(&dial->fd));
    }
}

void dial_cancel(struct dial *dial)
{
    if (dial->loop) {
        drop(dial);
        dial->loop = NULL;
    }
}

static void finish(struct dial *dial, int fd, int errnum)
{
    dial_cancel(dial);
    dial->fn(dial->arg, fd, errnum);
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

static void try_next(struct dial *dial);

static void abandon_try(struct dial *dial, int errnum)
{
    drop(dial);
    dial->last_errno = errnum;
    try_next(dial);
}

static void on_timeout(void *arg)
{
    abandon_try(arg, ETIMEDOUT);
}

static void on_connected(void *arg, uint32_t events)
{
    (void)events;
    struct dial *dial = arg;
    int errnum = 0;
    socklen_t len = sizeof(errnum);
    if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0) {
        errnum = errno;
    }
    if (errnum) {
        abandon_try(dial, errnum);
        return;
    }
    sb_loop_unwatch(dial->loop, dial->watch);
    dial->watch = 0;
    finish(dial, sb_steal_fd(&dial->fd), 0);
}

static void try_next(struct dial *dial)
{
    while (dial->next < dial->count) {
        const struct in6_addr *address = &dial->addresses[dial->next++];
        if (dial->permits && !dial->permits(dial->arg, address)) {
            continue;
        }
        dial->fd = start_connect(address, dial->port);
        if (dial->fd < 0) {
            dial->last_errno = -dial->fd;
            dial->fd = -1;
            continue;
        }
        dial->watch = sb_loop_watch(dial->loop, dial->fd, EPOLLOUT, on_connected, dial);
        sb_loop_timer(dial->loop, &dial->timer, LIMIT_CONNECT_MS, on_timeout, dial);
        return;
    }
    finish(dial, -1, dial->last_errno);
}

void dial_start(struct dial *dial, struct sb_loop *loop, const struct in6_addr *addresses,
                size_t count, uint16_t port, dial_permits_fn *permits, dial_fn *fn, void *arg)
{
    *dial = (struct dial){.loop = loop,
                          .count = count < LIMIT_ADDRESSES ? count : LIMIT_ADDRESSES,
                          .port = port,
                          .fd = -1,
                          .permits = permits,
                          .fn = fn,
                          .arg = arg};
    memcpy(dial->addresses, addresses, dial->count * sizeof(*addresses));
    try_next(dial);
}
