/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/msg.h"

/* Connections whose inner end is still being made: more wait in the listener's backlog. */
enum { PENDING_MAX = 64, BACKLOG = 64 };

struct port {
    struct publish *publish;
    char address[INET6_ADDRSTRLEN];
    uint16_t host_port, port;
    int fd;
    sb_watch watch;
};

struct pending {
    struct publish *publish;
    int outer, channel;
    sb_watch watch;
    struct pending *next;
};

struct publish {
    struct sb_loop *loop;
    struct publish_peers peers;
    struct port *ports;
    size_t nports, npending;
    struct pending *pending;
};

static void pending_end(struct pending *p)
{
    struct publish *publish = p->publish;
    struct pending **slot = &publish->pending;
    while (*slot != p) {
        slot = &(*slot)->next;
    }
    *slot = p->next;
    publish->npending--;
    sb_loop_unwatch(publish->loop, p->watch);
    close(p->channel);
    close(p->outer);
    free(p);
}

/* sbx-init has dialled, or could not: then the outer connection is closed, as by a closed port. */
static void on_dialled(void *arg, uint32_t events)
{
    struct pending *p = arg;
    (void)events;
    SB_CLEANUP(msg) struct sb_msg answer = {0};
    int r = sb_msg_recv(p->channel, &answer, NULL);
    if (r == -EAGAIN) {
        return;
    }
    if (r > 0 && answer.nfds == 1) {
        SB_CLEANUP(json) json_t *order = json_pack("{s:s}", "op", "tunnel");
        int ends[] = {p->outer, answer.fds[0]};
        sb_msg_send(*p->publish->peers.proxy, order, ends, 2, NULL);
    }
    pending_end(p);
}

static int ask_init(struct publish *publish, uint16_t port)
{
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel) < 0) {
        return -errno;
    }
    SB_CLEANUP(json) json_t *order = json_pack("{s:s,s:i}", "op", "dial", "port", (int)port);
    int r = sb_msg_send(publish->peers.init, order, &channel[1], 1, NULL);
    close(channel[1]);
    if (r < 0) {
        close(channel[0]);
        return r;
    }
    return channel[0];
}

static void on_connection(void *arg, uint32_t events)
{
    struct port *port = arg;
    struct publish *publish = port->publish;
    (void)events;
    int outer = accept4(port->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (outer < 0) {
        return;
    }
    int channel = publish->npending < PENDING_MAX ? ask_init(publish, port->port) : -EAGAIN;
    if (channel < 0) {
        close(outer);
        return;
    }
    struct pending *p = sb_xcalloc(1, sizeof(*p));
    *p = (struct pending){
        .publish = publish, .outer = outer, .channel = channel, .next = publish->pending};
    publish->pending = p;
    publish->npending++;
    p->watch = sb_loop_watch(publish->loop, channel, EPOLLIN, on_dialled, p);
}

static int listen_at(const char *address, uint16_t *host_port, struct sb_err **err)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(*host_port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(*host_port)};
    bool v4 = inet_pton(AF_INET, address, &in4.sin_addr) == 1;
    if (!v4 && inet_pton(AF_INET6, address, &in6.sin6_addr) != 1) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not an address to publish on", address);
    }
    struct sockaddr *addr = v4 ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6;
    socklen_t len = v4 ? sizeof(in4) : sizeof(in6);
    SB_CLEANUP(fd)
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    }
    if (fd < 0 || bind(fd, addr, len) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, addr, &len) < 0) {
        sb_fail_errno(err, errno, "publish on %s%s%s:%u", v4 ? "" : "[", address, v4 ? "" : "]",
                      *host_port);
        sb_hint(err, "choose another host port, or leave it out to get a free one");
        return SB_ESTART;
    }
    *host_port = ntohs(v4 ? in4.sin_port : in6.sin6_port);
    return sb_steal_fd(&fd);
}

static int open_port(struct publish *publish, const json_t *entry, struct sb_err **err)
{
    struct port *port = &publish->ports[publish->nports];
    const char *address = sb_json_str(entry, "host_ip");
    snprintf(port->address, sizeof(port->address), "%s", address ? address : "127.0.0.1");
    port->publish = publish;
    port->host_port = (uint16_t)sb_json_int(entry, "host_port", 0);
    port->port = (uint16_t)sb_json_int(entry, "port", 0);
    port->fd = listen_at(port->address, &port->host_port, err);
    if (port->fd < 0) {
        return port->fd;
    }
    publish->nports++;
    port->watch = sb_loop_watch(publish->loop, port->fd, EPOLLIN, on_connection, port);
    return 0;
}

int publish_open(const json_t *wanted, const struct publish_peers *peers, struct sb_loop *loop,
                 struct publish **ret, struct sb_err **err)
{
    struct publish *publish = sb_xcalloc(1, sizeof(*publish));
    publish->loop = loop;
    publish->peers = *peers;
    publish->ports = sb_xcalloc(json_array_size(wanted) + 1, sizeof(*publish->ports));
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        int r = open_port(publish, json_array_get(wanted, i), err);
        if (r < 0) {
            publish_close(publish);
            return r;
        }
    }
    *ret = publish;
    return 0;
}

json_t *publish_list(const struct publish *publish)
{
    json_t *list = json_array();
    for (size_t i = 0; publish && i < publish->nports; i++) {
        const struct port *port = &publish->ports[i];
        json_array_append_new(list,
                              json_pack("{s:s,s:i,s:i}", "host_ip", port->address, "host_port",
                                        (int)port->host_port, "port", (int)port->port));
    }
    return list;
}

void publish_close(struct publish *publish)
{
    if (!publish) {
        return;
    }
    while (publish->pending) {
        pending_end(publish->pending);
    }
    for (size_t i = 0; i < publish->nports; i++) {
        sb_loop_unwatch(publish->loop, publish->ports[i].watch);
        close(publish->ports[i].fd);
    }
    free(publish->ports);
    free(publish);
}
