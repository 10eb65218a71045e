/* SPDX-License-Identifier: Apache-2.0
 * new_hosts PORT: for each line "NAME ADDRESS" of standard input connects anew, shakes hands by TLS
 * as a client of NAME that trusts everybody, asks for "/" and reads the answer.  Prints how long
 * that took in the median and at 99 %, from before the connection to the answer's last byte, and
 * how much of it was this program's own processor time on average: three numbers in microseconds.
 *
 * One after the other, and as little as a client can do: what is measured is the far side. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HOSTS = 100000, NAME = 256, ANSWER = 16384 };

static _Noreturn void fail(const char *name, const char *what)
{
    fprintf(stderr, "new_hosts: %s: %s\n", name, what);
    exit(1);
}

static double now_us(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int connect_to(const char *name, const char *address, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || inet_pton(AF_INET, address, &in.sin_addr) != 1 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
        connect(fd, (const struct sockaddr *)&in, sizeof(in)) < 0) {
        fail(name, "cannot connect");
    }
    return fd;
}

/* Is it all there?  It comes with a Content-Length. */
static int is_complete(const char *answer, size_t len)
{
    const char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "content-length:");
    return end && length && length < end &&
           len >=
               (size_t)(end + 4 - answer) + strtoul(length + strlen("content-length:"), NULL, 10);
}

static void ask(SSL *ssl, const char *name, uint16_t port)
{
    static char request[2 * NAME], answer[ANSWER];
    size_t n, got = 0;
    int len =
        snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: %s:%u\r\n\r\n", name, port);
    if (SSL_write_ex(ssl, request, (size_t)len, &n) != 1) {
        fail(name, "cannot ask");
    }
    do {
        if (SSL_read_ex(ssl, answer + got, sizeof(answer) - 1 - got, &n) != 1) {
            fail(name, "the answer is cut off");
        }
        got += n;
        answer[got] = '\0';
    } while (!is_complete(answer, got));
    if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0) {
        fail(name, "the answer is not 200");
    }
}

static double visit(SSL_CTX *ctx, const char *name, const char *address, uint16_t port)
{
    double start = now_us(CLOCK_MONOTONIC);
    int fd = connect_to(name, address, port);
    SSL *ssl = SSL_new(ctx);
    if (!ssl || !SSL_set_fd(ssl, fd) || !SSL_set_tlsext_host_name(ssl, (void *)(uintptr_t)name) ||
        SSL_connect(ssl) != 1) {
        fail(name, "no handshake");
    }
    ask(ssl, name, port);
    double took = now_us(CLOCK_MONOTONIC) - start;
    SSL_free(ssl);
    close(fd);
    return took;
}

static int in_order(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    static double took[HOSTS];
    static char name[NAME], address[INET_ADDRSTRLEN];
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    uint16_t port = argc == 2 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0;
    size_t n = 0;
    if (!port || !ctx) {
        fail("usage", "new_hosts PORT <HOSTS");
    }
    double before = now_us(CLOCK_PROCESS_CPUTIME_ID);
    while (n < HOSTS && scanf("%255s %15s", name, address) == 2) {
        took[n++] = visit(ctx, name, address, port);
    }
    if (!n) {
        fail("standard input", "no hosts");
    }
    double cpu = (now_us(CLOCK_PROCESS_CPUTIME_ID) - before) / (double)n;
    qsort(took, n, sizeof(*took), in_order);
    printf("%.0f %.0f %.0f\n", took[n / 2], took[n * 99 / 100], cpu);
    SSL_CTX_free(ctx);
    return 0;
}
