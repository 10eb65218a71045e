/* SPDX-License-Identifier: Apache-2.0
 * link_bytes WAY MIB: moves so many MiB from a pipe to a pipe, and prints MB a second.
 *
 *   link     through two links and the socket between them, each in a process of its own
 *   copies   through two processes that copy 64 KiB at a time, and the socket between them
 *   socket   through the socket alone, without pipes or copying processes
 *
 * link_bytes turns COUNT: microseconds for a byte there and back, through two links. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/msg.h"
#include "link/link.h"

enum { CHUNK = 64 * 1024 };

static char data[CHUNK];

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void pair_of(int type, int pair[2])
{
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0) {
        fail("socketpair");
    }
}

static void pipe_of(int pair[2])
{
    if (pipe2(pair, O_CLOEXEC) < 0) {
        fail("pipe");
    }
}

static bool in_child(void)
{
    pid_t pid = fork();
    if (pid < 0) {
        fail("fork");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid == 0;
}

static _Noreturn void copy(int from, int to)
{
    ssize_t n;
    while ((n = read(from, data, CHUNK)) > 0) {
        if (sb_write_all(to, data, (size_t)n) < 0) {
            break;
        }
    }
    _exit(0);
}

static void on_closed(void *arg, const struct sb_err *why)
{
    (void)why;
    sb_loop_stop(arg);
}

static _Noreturn void run_link(enum link_side side, int wire, int orders)
{
    struct sb_loop *loop = NULL;
    struct link *link = NULL;
    struct sb_err *err = NULL;
    struct link_events events = {.closed = on_closed};
    if (sb_loop_new(&loop, &err) == 0) {
        events.arg = loop;
        if (link_new(loop, side, wire, orders, &events, &link, &err) == 0) {
            sb_loop_run(loop, &err);
        }
    }
    _exit(0);
}

/* What write() to *ret_in brings comes out of *ret_out; both links live until we end. */
static void open_links(int *ret_in, int *ret_out)
{
    int wire[2];
    int host[2];
    int guest[2];
    int in[2];
    pair_of(SOCK_STREAM, wire);
    pair_of(SOCK_SEQPACKET, host);
    pair_of(SOCK_SEQPACKET, guest);
    if (in_child()) {
        close(wire[1]);
        close(host[0]);
        run_link(LINK_HOST, wire[0], host[1]);
    }
    if (in_child()) {
        close(wire[0]);
        close(guest[0]);
        run_link(LINK_GUEST, wire[1], guest[1]);
    }
    close(wire[0]);
    close(wire[1]);
    pipe_of(in);
    SB_CLEANUP(json) json_t *order = json_object();
    struct sb_msg msg;
    if (sb_msg_send(host[0], order, in, 1, NULL) < 0 || sb_msg_recv(guest[0], &msg, NULL) != 1) {
        fail("send a pipe");
    }
    close(in[0]);
    *ret_in = in[1];
    *ret_out = sb_msg_steal_fd(&msg, 0);
    sb_msg_done(&msg);
}

static void open_copies(int *ret_in, int *ret_out)
{
    int in[2];
    int out[2];
    int wire[2];
    pipe_of(in);
    pipe_of(out);
    pair_of(SOCK_STREAM, wire);
    if (in_child()) {
        close(in[1]);
        copy(in[0], wire[0]);
    }
    if (in_child()) {
        close(wire[0]);
        copy(wire[1], out[1]);
    }
    *ret_in = in[1];
    *ret_out = out[0];
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void measure(int in, int out, size_t total)
{
    if (in_child()) {
        close(out);
        for (size_t sent = 0; sent < total; sent += CHUNK) {
            if (sb_write_all(in, data, CHUNK) < 0) {
                _exit(1);
            }
        }
        _exit(0);
    }
    double start = now();
    for (size_t got = 0; got < total;) {
        ssize_t n = read(out, data, CHUNK);
        if (n <= 0) {
            fail("read");
        }
        got += (size_t)n;
    }
    printf("%.0f\n", (double)total / 1e6 / (now() - start));
}

/* A byte to the guest, and one back. */
static void measure_turns(int there, int back, long count)
{
    int echo_in;
    int echo_out;
    open_links(&echo_in, &echo_out);
    if (in_child()) {
        while (read(back, data, 1) == 1 && write(echo_in, data, 1) == 1) {
        }
        _exit(0);
    }
    double start = now();
    for (long i = 0; i < count; i++) {
        if (write(there, "x", 1) != 1 || read(echo_out, data, 1) != 1) {
            fail("turn");
        }
    }
    printf("%.1f\n", (now() - start) * 1e6 / (double)count);
}

int main(int argc, char **argv)
{
    const char *way = argc == 3 ? argv[1] : "";
    long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    int pair[2];
    int in = -1;
    int out = -1;
    if (strcmp(way, "link") == 0 || strcmp(way, "turns") == 0) {
        open_links(&in, &out);
    } else if (strcmp(way, "copies") == 0) {
        open_copies(&in, &out);
    } else if (strcmp(way, "socket") == 0) {
        pair_of(SOCK_STREAM, pair);
        in = pair[0];
        out = pair[1];
    }
    if (in < 0 || count < 1) {
        fputs("usage: link_bytes link|copies|socket MIB, or turns COUNT\n", stderr);
        return 2;
    }
    if (strcmp(way, "turns") == 0) {
        measure_turns(in, out, count);
    } else {
        measure(in, out, (size_t)count << 20);
    }
    return 0;
}
