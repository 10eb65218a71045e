/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dns_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/bounds.h"
#include "proxy/dns_codec.h"
#include "proxy/record.h"
#include "proxy/seldom.h"

enum { ANSWER_TTL = 60, UDP_TURN = 32, QUERY_MAX = 2048 };

struct dns_client {
    struct dns_server *server;
    int fd; /* -1: slot is free */
    sb_watch watch;
    struct sb_timer timer;
    uint8_t *in; /* QUERY_MAX, while it is connected */
    size_t len;
};

struct dns_server {
    struct proxy *proxy;
    struct dns_client clients[LIMIT_DNS_TCP];
    struct seldom denials;
};

static void log_denial(struct dns_server *server, const struct host *host,
                       const struct policy_decision *decision)
{
    if (!seldom_due(&server->denials, host->text, strlen(host->text),
                    sb_loop_now_ms(server->proxy->loop))) {
        return;
    }
    struct record record = {0};
    record_set_decision(&record, host, 53, decision);
    record.path = "dns";
    record_write(server->proxy, &record);
    record_done(&record);
}

/* Decides the answer; returns the code and fills `out` with IPv4 and IPv6. */
static int answer(struct dns_server *server, const struct dns_query *query, struct in6_addr out[2],
                  size_t *ret_n)
{
    struct host host;
    struct policy_decision decision = {0};
    *ret_n = 0;
    if (host_parse(query->name, strlen(query->name), &host, NULL) < 0) {
        return DNS_NXDOMAIN;
    }
    if (strcmp(host.text, "localhost") == 0) {
        inet_pton(AF_INET6, "::ffff:127.0.0.1", &out[0]);
        out[1] = in6addr_loopback;
        *ret_n = 2;
        return DNS_NOERROR;
    }
    struct host judged = host;
    host_map_alias(&judged);
    /* The host's alias always resolves: whether a port of it may be reached is judged there. */
    bool alias = strcmp(judged.text, host.text) != 0;
    if (!alias && !policy_allows_name(server->proxy->config->policy, &host, &decision)) {
        log_denial(server, &host, &decision);
        return DNS_NXDOMAIN;
    }
    names_assign(server->proxy->names, host.text, &out[0], &out[1]);
    *ret_n = 2;
    return DNS_NOERROR;
}

static size_t reply(struct dns_server *server, const uint8_t *data, size_t len, bool tcp,
                    uint8_t *out, size_t cap)
{
    struct dns_query query;
    int code = dns_parse_query(data, len, &query);
    if (code < 0) {
        return 0;
    }
    struct in6_addr addresses[2];
    size_t n = 0;
    if (code == DNS_NOERROR) {
        code = answer(server, &query, addresses, &n);
    }
    if (tcp) {
        return dns_format_answer_tcp(&query, code, addresses, n, ANSWER_TTL, out, cap);
    }
    size_t most = dns_udp_cap(&query);
    return dns_format_answer(&query, code, addresses, n, ANSWER_TTL, out, most < cap ? most : cap);
}

static void on_udp(void *arg, uint32_t events)
{
    (void)events;
    struct dns_server *server = arg;
    int fd = server->proxy->listeners[LISTEN_DNS_UDP].fd;
    for (int i = 0; i < UDP_TURN; i++) {
        uint8_t in[QUERY_MAX], out[DNS_UDP_MAX];
        /* The answer must come from the address that was asked: the control data goes back as is.
         */
        _Alignas(struct cmsghdr) char control[256];
        struct sockaddr_storage from;
        struct iovec iov = {.iov_base = in, .iov_len = sizeof(in)};
        struct msghdr msg = {.msg_name = &from,
                             .msg_namelen = sizeof(from),
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);
        if (n < 0) {
            return;
        }
        size_t len = reply(server, in, (size_t)n, false, out, sizeof(out));
        iov = (struct iovec){.iov_base = out, .iov_len = len};
        if (len > 0 && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
            sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    }
}

static void drop_client(struct dns_client *client)
{
    struct sb_loop *loop = client->server->proxy->loop;
    sb_loop_unwatch(loop, client->watch);
    sb_loop_timer_stop(loop, &client->timer);
    close(client->fd);
    client->fd = -1;
    free(client->in);
    client->in = NULL;
}

static void on_client_timeout(void *arg)
{
    drop_client(arg);
}

/* Answers every whole query that has come; false when the client is to be dropped. */
static bool serve_client(struct dns_client *client)
{
    size_t len;
    int r;
    while ((r = dns_tcp_message(client->in, client->len, &len)) == 1) {
        uint8_t out[DNS_UDP_MAX];
        size_t n = reply(client->server, client->in + 2, len, true, out, sizeof(out));
        /* Answers are small: one that does not fit into the socket's buffer means that the client
         * does not read. */
        if (n == 0 || send(client->fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n) {
            return false;
        }
        client->len -= len + 2;
        memmove(client->in, client->in + len + 2, client->len);
    }
    return r == 0 && client->len < QUERY_MAX;
}

static void on_client(void *arg, uint32_t events)
{
    (void)events;
    struct dns_client *client = arg;
    ssize_t n = recv(client->fd, client->in + client->len, QUERY_MAX - client->len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    client->len += n > 0 ? (size_t)n : 0;
    if (n <= 0 || !serve_client(client)) {
        drop_client(client);
    }
}

/* When all are taken the oldest gives way: those that say nothing keep nobody out. */
static struct dns_client *free_client(struct dns_server *server)
{
    struct dns_client *oldest = &server->clients[0];
    for (size_t i = 0; i < LIMIT_DNS_TCP; i++) {
        struct dns_client *client = &server->clients[i];
        if (client->fd < 0) {
            return client;
        }
        oldest = client->timer.due_ms < oldest->timer.due_ms ? client : oldest;
    }
    drop_client(oldest);
    return oldest;
}

static void on_tcp(void *arg, uint32_t events)
{
    (void)events;
    struct dns_server *server = arg;
    struct proxy *proxy = server->proxy;
    int fd = accept4(proxy->listeners[LISTEN_DNS_TCP].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    struct dns_client *client = free_client(server);
    client->watch = sb_loop_watch(proxy->loop, fd, EPOLLIN, on_client, client);
    if (!client->watch) {
        close(fd);
        return;
    }
    client->fd = fd;
    client->in = sb_xcalloc(1, QUERY_MAX);
    client->len = 0;
    sb_loop_timer(proxy->loop, &client->timer, LIMIT_DNS_TCP_MS, on_client_timeout, client);
}

int dns_server_start(struct proxy *proxy, struct dns_server **ret, struct sb_err **err)
{
    struct dns_server *server = sb_xcalloc(1, sizeof(*server));
    server->proxy = proxy;
    for (size_t i = 0; i < LIMIT_DNS_TCP; i++) {
        server->clients[i].server = server;
        server->clients[i].fd = -1;
    }
    static sb_watch_fn *const handlers[] = {on_udp, on_tcp};
    for (int i = 0; i < 2; i++) {
        struct listener *listener = &proxy->listeners[LISTEN_DNS_UDP + i];
        if (listener->fd < 0) {
            continue;
        }
        int one = 1;
        if (i == 0) {
            setsockopt(listener->fd, SOL_IP, IP_PKTINFO, &one, sizeof(one));
        }
        fcntl(listener->fd, F_SETFL, O_NONBLOCK);
        listener->watch = sb_loop_watch(proxy->loop, listener->fd, EPOLLIN, handlers[i], server);
        if (!listener->watch) {
            free(server);
            return sb_fail(err, SB_EFAIL, "cannot watch the DNS sockets");
        }
    }
    *ret = server;
    return 0;
}
