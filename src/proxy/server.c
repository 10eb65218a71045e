/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/bounds.h"
#include "proxy/conn.h"
#include "proxy/dns_server.h"
#include "proxy/refused.h"

/* <linux/netfilter_ipv4.h> and ..._ipv6/ip6_tables.h clash with libc's headers. */
enum { ORIGINAL_DST = 80, ACCEPT_RETRY_MS = 100, ACCEPT_TURN = 32 };

/* Where the connection wanted to go: before the redirect, or, without one, its local address (in
 * the sandbox's namespace every address is local). */
static bool original_target(int fd, bool v6, struct in6_addr *ret_address, uint16_t *ret_port)
{
    struct sockaddr_storage storage = {0};
    socklen_t len = sizeof(storage);
    struct sockaddr *any = (struct sockaddr *)&storage;
    if (getsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, ORIGINAL_DST, any, &len) < 0) {
        len = sizeof(storage);
        if (getsockname(fd, any, &len) < 0) {
            return false;
        }
    }
    if (storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&storage;
        *ret_address = in6->sin6_addr;
        *ret_port = ntohs(in6->sin6_port);
        return true;
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *)&storage;
    memset(ret_address, 0, sizeof(*ret_address));
    memset(&ret_address->s6_addr[10], 0xff, 2);
    memcpy(&ret_address->s6_addr[12], &in->sin_addr, sizeof(in->sin_addr));
    *ret_port = ntohs(in->sin_port);
    return storage.ss_family == AF_INET;
}

static void take_connection(struct listener *listener, int fd)
{
    struct in6_addr original;
    uint16_t port;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (listener->kind == LISTEN_HTTP) {
        conn_open(listener->proxy, fd, NULL, 0);
    } else if (original_target(fd, listener->kind == LISTEN_TCP6, &original, &port)) {
        conn_open(listener->proxy, fd, &original, port);
    } else {
        close(fd);
    }
}

static void set_accepting(struct proxy *proxy, bool accepting)
{
    for (int kind = LISTEN_HTTP; kind <= LISTEN_TCP6; kind++) {
        sb_loop_modify(proxy->loop, proxy->listeners[kind].watch, accepting ? EPOLLIN : 0);
    }
}

static void on_accept_retry(void *arg)
{
    set_accepting(arg, true);
}

/* Meanwhile what comes waits in the listeners' backlog. */
static void accept_later(struct proxy *proxy, uint64_t after_ms)
{
    set_accepting(proxy, false);
    sb_loop_timer(proxy->loop, &proxy->accept_retry, after_ms, on_accept_retry, proxy);
}

static void on_accept(void *arg, uint32_t events)
{
    (void)events;
    struct listener *listener = arg;
    struct proxy *proxy = listener->proxy;
    bool full = proxy->nconns >= LIMIT_CONNECTIONS;
    if (full && !conn_make_room(proxy)) {
        accept_later(proxy, LIMIT_PRESSED_RETRY_MS);
        return;
    }
    int turn = full ? 1 : ACCEPT_TURN; /* room was made for the one that is known to be there */
    for (int i = 0; i < turn && proxy->nconns < LIMIT_CONNECTIONS; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_connection(listener, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            accept_later(proxy, ACCEPT_RETRY_MS);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

void server_conn_closed(struct proxy *proxy)
{
    if (proxy->nconns == LIMIT_CONNECTIONS - 1) {
        set_accepting(proxy, true);
    }
}

int server_start(struct proxy *proxy, struct sb_err **err)
{
    for (int kind = LISTEN_HTTP; kind <= LISTEN_TCP6; kind++) {
        struct listener *listener = &proxy->listeners[kind];
        if (listener->fd < 0) {
            continue;
        }
        fcntl(listener->fd, F_SETFL, O_NONBLOCK);
        listener->watch = sb_loop_watch(proxy->loop, listener->fd, EPOLLIN, on_accept, listener);
        if (!listener->watch) {
            return sb_fail(err, SB_EFAIL, "cannot watch listener %d", kind);
        }
    }
    int r = dns_server_start(proxy, &proxy->dns, err);
    return r < 0 ? r : refused_start(proxy, err);
}
