/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/refused.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/nflog.h"
#include "proxy/record.h"
#include "proxy/seldom.h"

/* A message is about 120 bytes: the rule that makes it keeps 64 of the packet. */
enum { MESSAGES_MAX = 8192, TURN = 32 };

struct refused {
    struct proxy *proxy;
    struct seldom seldom;
};

static void log_packet(struct refused *refused, const struct nflog_packet *packet)
{
    struct proxy *proxy = refused->proxy;
    uint8_t key[sizeof(packet->to) + 3];
    memcpy(key, &packet->to, sizeof(packet->to));
    key[sizeof(key) - 3] = packet->protocol;
    key[sizeof(key) - 2] = (uint8_t)(packet->port >> 8);
    key[sizeof(key) - 1] = (uint8_t)packet->port;
    if (!seldom_due(&refused->seldom, key, sizeof(key), sb_loop_now_ms(proxy->loop))) {
        return;
    }
    struct record record = {.path = "network",
                            .port = packet->port,
                            .reason = packet->protocol == IPPROTO_UDP ? "udp" : "protocol"};
    const char *name = NULL;
    struct host host;
    if (names_lookup(proxy->names, &packet->to, &name) && name) {
        snprintf(record.host, sizeof(record.host), "%s", name);
    } else {
        host_from_address(&packet->to, &host);
        memcpy(record.host, host.text, sizeof(record.host));
    }
    record_write(proxy, &record);
}

static void on_messages(void *arg, uint32_t events)
{
    (void)events;
    struct refused *refused = arg;
    int fd = refused->proxy->listeners[LISTEN_REFUSED].fd;
    for (int i = 0; i < TURN; i++) {
        uint8_t data[MESSAGES_MAX];
        struct sockaddr_nl from = {0};
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0) {
            return; /* no more, or some were lost: the kernel says so once */
        }
        const uint8_t *at = data;
        size_t left = from.nl_pid == 0 ? (size_t)n : 0; /* 0: the kernel */
        struct nflog_packet packet;
        while (nflog_next(&at, &left, &packet)) {
            log_packet(refused, &packet);
        }
    }
}

int refused_start(struct proxy *proxy, struct sb_err **err)
{
    struct listener *listener = &proxy->listeners[LISTEN_REFUSED];
    if (listener->fd < 0) {
        return 0;
    }
    struct refused *refused = sb_xcalloc(1, sizeof(*refused));
    refused->proxy = proxy;
    listener->watch = sb_loop_watch(proxy->loop, listener->fd, EPOLLIN, on_messages, refused);
    if (!listener->watch) {
        free(refused);
        return sb_fail(err, SB_EFAIL, "cannot watch the socket that tells of refused packets");
    }
    return 0;
}
