/* SPDX-License-Identifier: Apache-2.0
 * plain_relay ADDRESS PORT TO-ADDRESS TO-PORT: passes connections on, and does nothing else: what a
 * tunnel costs at least.  One read and one write for each message, nothing that bounds or watches
 * anything, and a write that is not taken whole ends it. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS = 4096, EVENTS = 64, READ = 16384 };

static int epfd, other[FDS]; /* -1: it has gone */

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in place(const char *address, const char *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    if (inet_pton(AF_INET, address, &in.sin_addr) != 1) {
        fail(address);
    }
    return in;
}

static void watch(int fd)
{
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (fd < 0 || fd >= FDS || epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) < 0) {
        fail("watch");
    }
}

static void take(int listener, const struct sockaddr_in *to)
{
    int in = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (in < 0 || out < 0 || connect(out, (const struct sockaddr *)to, sizeof(*to)) < 0) {
        fail("connect");
    }
    watch(in);
    watch(out);
    other[in] = out;
    other[out] = in;
}

static void pass_on(int fd)
{
    static char data[READ];
    ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
    if (n > 0 && send(other[fd], data, (size_t)n, MSG_NOSIGNAL) == n) {
        return;
    }
    close(fd);
    close(other[fd]);
    other[other[fd]] = -1;
    other[fd] = -1;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fail("plain_relay ADDRESS PORT TO-ADDRESS TO-PORT");
    }
    struct sockaddr_in from = place(argv[1], argv[2]), to = place(argv[3], argv[4]);
    struct epoll_event events[EVENTS];
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (bind(listener, (const struct sockaddr *)&from, sizeof(from)) < 0 ||
        listen(listener, SOMAXCONN) < 0) {
        fail("listen");
    }
    watch(listener);
    for (;;) {
        int n = epoll_wait(epfd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                take(listener, &to);
            } else if (other[fd] >= 0) {
                pass_on(fd);
            }
        }
    }
}
