/* SPDX-License-Identifier: Apache-2.0
 * The `dial` order: a connection to a port inside, for one that arrived at a published port
 * outside.
 *
 * It never waits: loopback answers at once, and a full backlog leaves the connection in progress
 * for whoever gets it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "init/init.h"

static int dial(int family, uint16_t port)
{
    struct sockaddr_in in4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool v4 = family == AF_INET;
    const struct sockaddr *addr =
        v4 ? (const struct sockaddr *)&in4 : (const struct sockaddr *)&in6;
    SB_CLEANUP(fd) int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, addr, v4 ? sizeof(in4) : sizeof(in6)) < 0 && errno != EINPROGRESS)) {
        return -errno;
    }
    return sb_steal_fd(&fd);
}

void dial_start(struct sb_msg *msg)
{
    SB_CLEANUP(fd) int channel = sb_msg_steal_fd(msg, 0);
    json_int_t port = sb_json_int(msg->json, "port", 0);
    if (channel < 0) {
        return;
    }
    SB_CLEANUP(fd) int fd = port < 1 || port > 65535 ? -EINVAL : dial(AF_INET, (uint16_t)port);
    if (fd == -ECONNREFUSED) {
        fd = dial(AF_INET6, (uint16_t)port);
    }
    SB_CLEANUP(json) json_t *answer = json_pack("{s:b}", "ok", fd >= 0);
    sb_msg_send(channel, answer, &fd, fd >= 0 ? 1 : 0, NULL);
}
