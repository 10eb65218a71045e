/* SPDX-License-Identifier: Apache-2.0
 * Two links, each in a process of its own, joined by a socket; the tests are what stands at both
 * ends, supervisor with command line and sbx-init.  Against hostile frames one link is alone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include <cmocka.h>

#include "base/fs.h"
#include "link/link_internal.h"

enum { PATIENCE_MS = 20000, CHUNK = 64 * 1024 };

static char junk[CHUNK];

/* ---- a link in a process ---- */

struct relay {
    pid_t pid;
    int words; /* what its owner would be told, a line each */
};

struct owner {
    struct sb_loop *loop;
    struct link *link;
    int words;
};

static void on_closed(void *arg, const struct sb_err *why)
{
    const struct owner *owner = arg;
    dprintf(owner->words, "%s\n", why->message);
    sb_loop_stop(owner->loop);
}

/* The guest's owner answers, the host's tells. */
static int on_control(void *arg, const json_t *message, struct sb_err **err)
{
    const struct owner *owner = arg;
    if (sb_json_str(message, "ask")) {
        SB_CLEANUP(json) json_t *answer = json_pack("{s:s}", "told", sb_json_str(message, "ask"));
        return link_control(owner->link, answer, err);
    }
    if (sb_json_str(message, "told")) {
        dprintf(owner->words, "told %s\n", sb_json_str(message, "told"));
        return 0;
    }
    return sb_fail(err, SB_EPROTO, "what does that mean");
}

static _Noreturn void run_relay(enum link_side side, int wire, int orders, int words, bool asks)
{
    struct owner owner = {.words = words};
    struct link_events events = {.closed = on_closed, .control = on_control, .arg = &owner};
    struct sb_err *err = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sb_loop_new(&owner.loop, &err) < 0 ||
        link_new(owner.loop, side, wire, orders, &events, &owner.link, &err) < 0) {
        dprintf(words, "%s\n", err->message);
        _exit(1);
    }
    SB_CLEANUP(json) json_t *question = json_pack("{s:s}", "ask", "me");
    if (asks && link_control(owner.link, question, &err) < 0) {
        _exit(1);
    }
    int r = sb_loop_run(owner.loop, &err);
    link_free(owner.link);
    sb_loop_free(owner.loop);
    close(words);
    sb_cleanup_json(&question);
    question = NULL;
    exit(r < 0); /* looks for leaks on its way, where that is built in */
}

/* Takes `wire` and `orders`. */
static struct relay start_relay(enum link_side side, int wire, int orders, bool asks)
{
    int words[2];
    assert_return_code(pipe2(words, O_CLOEXEC), errno);
    fflush(NULL);
    pid_t pid = fork();
    assert_return_code(pid, errno);
    if (pid == 0) {
        int keep[] = {wire, orders, words[1]};
        for (size_t i = 0; i < SB_ARRAY_LEN(keep); i++) {
            keep[i] = fcntl(keep[i], F_DUPFD, 100);
        }
        close_range(3, 99, 0);
        close_range(103, ~0U, 0);
        run_relay(side, keep[0], keep[1], keep[2], asks);
    }
    close(words[1]);
    close(wire);
    close(orders);
    return (struct relay){.pid = pid, .words = words[0]};
}

static size_t count_fds(pid_t pid)
{
    size_t count = 0;
    SB_CLEANUP(free) char *path = sb_xasprintf("/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

/* The relay closes what the test has closed a little later. */
static void await_fds(pid_t pid, size_t wanted)
{
    for (int i = 0; count_fds(pid) != wanted && i < PATIENCE_MS; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(count_fds(pid), wanted);
}

static void await(int fd, short events)
{
    struct pollfd polled = {.fd = fd, .events = events};
    assert_int_equal(poll(&polled, 1, PATIENCE_MS), 1);
}

static void next_word(const struct relay *relay, char *text, size_t size)
{
    size_t len = 0;
    while (len + 1 < size) {
        await(relay->words, POLLIN);
        if (read(relay->words, text + len, 1) != 1 || text[len] == '\n') {
            break;
        }
        len++;
    }
    text[len] = '\0';
}

static void assert_word(const struct relay *relay, const char *expected)
{
    char text[400];
    next_word(relay, text, sizeof(text));
    if (!strstr(text, expected)) {
        fail_msg("'%s' instead of '%s'", text, expected);
    }
}

static void end_relay(struct relay *relay)
{
    int status = -1;
    assert_int_equal(waitpid(relay->pid, &status, 0), relay->pid);
    assert_int_equal(status, 0);
    close(relay->words);
}

/* ---- both ---- */

struct pair {
    struct relay host, guest;
    int supervisor, init; /* the ends of the orders */
    size_t host_fds, guest_fds;
};

static void socket_pair(int type, int pair[2])
{
    assert_return_code(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), errno);
}

static int start_pair(void **state)
{
    static struct pair pair;
    int wire[2];
    int host[2];
    int guest[2];
    signal(SIGPIPE, SIG_IGN);
    socket_pair(SOCK_STREAM, wire);
    socket_pair(SOCK_SEQPACKET, host);
    socket_pair(SOCK_SEQPACKET, guest);
    pair.host = start_relay(LINK_HOST, wire[0], host[1], true);
    pair.guest = start_relay(LINK_GUEST, wire[1], guest[1], false);
    pair.supervisor = host[0];
    pair.init = guest[0];
    assert_word(&pair.host, "told me");
    pair.host_fds = count_fds(pair.host.pid);
    pair.guest_fds = count_fds(pair.guest.pid);
    *state = &pair;
    return 0;
}

/* Every test leaves the links as it found them. */
static int end_pair(void **state)
{
    struct pair *pair = *state;
    await_fds(pair->host.pid, pair->host_fds);
    await_fds(pair->guest.pid, pair->guest_fds);
    close(pair->supervisor);
    assert_word(&pair->host, "socket for messages was closed");
    assert_word(&pair->guest, "the other end of the link");
    end_relay(&pair->host);
    end_relay(&pair->guest);
    struct sb_msg msg;
    assert_int_equal(sb_msg_recv(pair->init, &msg, NULL), 0);
    close(pair->init);
    return 0;
}

static void send_json(int sock, json_t *json, const int *fds, size_t nfds)
{
    assert_int_equal(sb_msg_send(sock, json, fds, nfds, NULL), 0);
    json_decref(json);
}

static void receive(int sock, struct sb_msg *ret, size_t nfds)
{
    await(sock, POLLIN);
    assert_int_equal(sb_msg_recv_large(sock, ret, NULL), 1);
    assert_int_equal(ret->nfds, nfds);
}

/* A session as the command line and sbx-init have it. */
struct session {
    int channel, in, out, errs;
};

static void close_session(struct session *s)
{
    const int fds[] = {s->channel, s->in, s->out, s->errs};
    for (size_t i = 0; i < SB_ARRAY_LEN(fds); i++) {
        sb_cleanup_fd(&fds[i]);
    }
    *s = (struct session){-1, -1, -1, -1};
}

static void open_session(const struct pair *pair, struct session *cli, struct session *init)
{
    int channel[2];
    int in[2];
    int out[2];
    int errs[2];
    socket_pair(SOCK_SEQPACKET, channel);
    assert_return_code(pipe2(in, O_CLOEXEC), errno);
    assert_return_code(pipe2(out, O_CLOEXEC), errno);
    assert_return_code(pipe2(errs, O_CLOEXEC), errno);
    const int far[] = {channel[1], in[0], out[1], errs[1]};
    send_json(pair->supervisor, json_pack("{s:s}", "op", "exec"), far, 4);
    for (size_t i = 0; i < SB_ARRAY_LEN(far); i++) {
        close(far[i]);
    }
    *cli = (struct session){channel[0], in[1], out[0], errs[0]};
    struct sb_msg msg;
    receive(pair->init, &msg, 4);
    assert_string_equal(sb_json_str(msg.json, "op"), "exec");
    *init = (struct session){sb_msg_steal_fd(&msg, 0), sb_msg_steal_fd(&msg, 1),
                             sb_msg_steal_fd(&msg, 2), sb_msg_steal_fd(&msg, 3)};
    sb_msg_done(&msg);
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
}

static void expect(int fd, const char *text)
{
    char got[256];
    size_t len = 0;
    while (len < strlen(text)) {
        await(fd, POLLIN);
        ssize_t n = read(fd, got + len, strlen(text) - len);
        assert_true(n > 0);
        len += (size_t)n;
    }
    assert_memory_equal(got, text, len);
}

static void expect_end(int fd)
{
    char byte;
    await(fd, POLLIN);
    assert_int_equal(read(fd, &byte, 1), 0);
}

/* ---- tests of what honest ends do ---- */

static void test_messages(void **state)
{
    const struct pair *pair = *state;
    struct sb_msg msg;
    send_json(pair->init, json_pack("{s:s}", "event", "ready"), NULL, 0);
    receive(pair->supervisor, &msg, 0);
    assert_string_equal(sb_json_str(msg.json, "event"), "ready");
    sb_msg_done(&msg);
    for (int i = 0; i < 100; i++) {
        send_json(pair->supervisor,
                  json_pack("{s:s,s:i,s:s#}", "op", "x", "i", i, "nul", "a\0b", 3), NULL, 0);
    }
    for (int i = 0; i < 100; i++) {
        receive(pair->init, &msg, 0);
        assert_int_equal(sb_json_int(msg.json, "i", -1), i);
        assert_int_equal(json_string_length(json_object_get(msg.json, "nul")), 3);
        sb_msg_done(&msg);
    }
}

static void test_large_message(void **state)
{
    const struct pair *pair = *state;
    const size_t len = SB_MSG_LARGE_MAX - 100;
    SB_CLEANUP(free) char *text = sb_xcalloc(len + 1, 1);
    memset(text, 'x', len);
    int channel[2];
    socket_pair(SOCK_SEQPACKET, channel);
    send_json(pair->supervisor, json_pack("{s:s}", "env", text), &channel[1], 1);
    close(channel[1]);
    struct sb_msg msg;
    await(pair->init, POLLIN);
    assert_int_equal(sb_msg_recv_large(pair->init, &msg, NULL), 1);
    assert_int_equal(json_string_length(json_object_get(msg.json, "env")), len);
    assert_int_equal(msg.nfds, 1);
    send_json(msg.fds[0], json_pack("{s:b}", "ok", 1), NULL, 0);
    sb_msg_done(&msg);
    receive(channel[0], &msg, 0);
    sb_msg_done(&msg);
    close(channel[0]);
}

static void test_session(void **state)
{
    struct session cli;
    struct session init;
    open_session(*state, &cli, &init);
    put(cli.in, "to the command");
    expect(init.in, "to the command");
    close(sb_steal_fd(&cli.in));
    expect_end(init.in);
    put(init.errs, "not good");
    expect(cli.errs, "not good");
    put(init.out, "from the command");
    close(sb_steal_fd(&init.out));
    expect(cli.out, "from the command");
    expect_end(cli.out);
    send_json(cli.channel, json_pack("{s:s,s:i}", "op", "signal", "signo", 2), NULL, 0);
    struct sb_msg msg;
    receive(init.channel, &msg, 0);
    assert_int_equal(sb_json_int(msg.json, "signo", 0), 2);
    sb_msg_done(&msg);
    send_json(init.channel, json_pack("{s:s,s:i}", "event", "exit", "status", 3), NULL, 0);
    close_session(&init);
    receive(cli.channel, &msg, 0);
    assert_int_equal(sb_json_int(msg.json, "status", 0), 3);
    sb_msg_done(&msg);
    assert_int_equal(sb_msg_recv(cli.channel, &msg, NULL), 0);
    expect_end(cli.errs);
    close_session(&cli);
}

/* `yes | head`: who reads has gone, who writes must learn it. */
static void test_reader_gone(void **state)
{
    struct session cli;
    struct session init;
    open_session(*state, &cli, &init);
    close(sb_steal_fd(&cli.out));
    await(init.out, 0);
    assert_int_equal(write(init.out, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    close(sb_steal_fd(&init.in));
    await(cli.in, 0);
    assert_int_equal(write(cli.in, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    put(init.errs, "still here");
    expect(cli.errs, "still here");
    close_session(&cli);
    struct sb_msg msg;
    await(init.channel, POLLIN);
    assert_int_equal(sb_msg_recv(init.channel, &msg, NULL), 0); /* it hangs up */
    close_session(&init);
}

static size_t fill(int fd)
{
    size_t total = 0;
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    assert_int_equal(descriptor_unblock(fd), 0);
    while (poll(&polled, 1, 200) == 1) {
        ssize_t n = write(fd, junk, sizeof(junk));
        assert_true(n > 0);
        total += (size_t)n;
    }
    return total;
}

static size_t unread(int fd)
{
    int bytes = 0;
    assert_return_code(ioctl(fd, FIONREAD, &bytes), errno);
    return (size_t)bytes;
}

/* Reads little by little until a message is there; how much that was. */
static size_t read_until_message(int from, int channel)
{
    size_t taken = 0;
    for (;;) {
        char data[1000];
        struct pollfd polled[] = {{.fd = channel, .events = POLLIN},
                                  {.fd = from, .events = POLLIN}};
        assert_true(poll(polled, 2, PATIENCE_MS) > 0);
        if (polled[0].revents) {
            return taken;
        }
        ssize_t n = read(from, data, sizeof(data));
        assert_true(n > 0);
        taken += (size_t)n;
    }
}

/* The end of a command does not overtake its output, however slowly that is read, while a child of
 * it still has the pipe. */
static void test_order(void **state)
{
    struct session cli;
    struct session init;
    struct sb_msg msg;
    open_session(*state, &cli, &init);
    size_t written = fill(init.out);
    assert_true(written > CHUNK + LINK_WINDOW);
    send_json(init.channel, json_pack("{s:s}", "event", "exit"), NULL, 0);
    close(sb_steal_fd(&init.channel));
    size_t taken = read_until_message(cli.out, cli.channel);
    assert_true(taken > CHUNK / 2);
    receive(cli.channel, &msg, 0);
    assert_string_equal(sb_json_str(msg.json, "event"), "exit");
    sb_msg_done(&msg);
    assert_int_equal(taken + unread(cli.out), written);
    close_session(&cli);
    close_session(&init);
}

/* A signal does overtake input that nobody reads. */
static void test_signal_overtakes_input(void **state)
{
    struct session cli;
    struct session init;
    struct sb_msg msg;
    open_session(*state, &cli, &init);
    fill(cli.in);
    send_json(cli.channel, json_pack("{s:s}", "op", "signal"), NULL, 0);
    receive(init.channel, &msg, 0);
    sb_msg_done(&msg);
    close_session(&cli);
    close_session(&init);
}

static void test_connection(void **state)
{
    const struct pair *pair = *state;
    int channel[2];
    int socks[2];
    struct sb_msg msg;
    socket_pair(SOCK_SEQPACKET, channel);
    socket_pair(SOCK_STREAM, socks);
    send_json(pair->supervisor, json_pack("{s:s}", "op", "dial"), &channel[1], 1);
    close(channel[1]);
    receive(pair->init, &msg, 1);
    send_json(msg.fds[0], json_pack("{s:b}", "ok", 1), &socks[1], 1);
    close(socks[1]);
    sb_msg_done(&msg);
    receive(channel[0], &msg, 1);
    close(channel[0]);
    int outer = sb_msg_steal_fd(&msg, 0);
    sb_msg_done(&msg);
    put(outer, "GET /");
    expect(socks[0], "GET /");
    assert_return_code(shutdown(outer, SHUT_WR), errno);
    expect_end(socks[0]);
    put(socks[0], "an answer after the end of the request");
    close(socks[0]);
    expect(outer, "an answer after the end of the request");
    expect_end(outer);
    close(outer);
}

static void test_connection_dropped(void **state)
{
    const struct pair *pair = *state;
    for (int inner = 0; inner < 2; inner++) {
        int channel[2];
        int socks[2];
        struct sb_msg msg;
        socket_pair(SOCK_SEQPACKET, channel);
        socket_pair(SOCK_STREAM, socks);
        send_json(pair->supervisor, json_object(), &channel[1], 1);
        close(channel[1]);
        receive(pair->init, &msg, 1);
        send_json(msg.fds[0], json_object(), &socks[1], 1);
        close(socks[1]);
        sb_msg_done(&msg);
        receive(channel[0], &msg, 1);
        close(channel[0]);
        int ends[2] = {sb_msg_steal_fd(&msg, 0), socks[0]};
        sb_msg_done(&msg);
        fill(ends[0]);
        fill(ends[1]);
        close(ends[inner]);
        /* Even with all buffers full it is told: there is room to write, and then nobody to read.
         */
        while (write(ends[!inner], "x", 1) == 1 || errno == EAGAIN) {
            await(ends[!inner], POLLOUT);
        }
        assert_int_equal(errno, EPIPE);
        close(ends[!inner]);
    }
}

static void test_content(void **state)
{
    const struct pair *pair = *state;
    const size_t len = 3 << 20;
    SB_CLEANUP(free) char *text = sb_xcalloc(len, 1);
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)(i * 2654435761U >> 13);
    }
    int channel[2];
    socket_pair(SOCK_SEQPACKET, channel);
    int fds[] = {channel[1], sb_memfd("content", text, len)};
    send_json(pair->supervisor, json_pack("{s:s}", "op", "write"), fds, 2);
    close(fds[0]);
    close(fds[1]);
    struct sb_msg msg;
    receive(pair->init, &msg, 2);
    SB_CLEANUP(buf) struct sb_buf got;
    sb_buf_init(&got, len);
    ssize_t n;
    while ((n = read(msg.fds[1], sb_buf_room(&got, 1), 1)) > 0) {
        sb_buf_add(&got, 1);
        char *room = sb_buf_room(&got, len - got.len < CHUNK ? len - got.len : CHUNK);
        n = read(msg.fds[1], room, len - got.len < CHUNK ? len - got.len : CHUNK);
        assert_true(n >= 0);
        sb_buf_add(&got, (size_t)n);
        if (got.len == len) {
            break;
        }
    }
    expect_end(msg.fds[1]);
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, text, len);
    sb_msg_done(&msg);
    close(channel[0]);
}

/* sbx-init hands out the master of a terminal. */
static void test_terminal(void **state)
{
    struct session cli;
    struct session init;
    struct sb_msg msg;
    open_session(*state, &cli, &init);
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlock = 0;
    assert_return_code(ioctl(master, TIOCSPTLCK, &unlock), errno);
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_return_code(slave, errno);
    send_json(init.channel, json_pack("{s:s}", "event", "started"), &master, 1);
    close(master);
    receive(cli.channel, &msg, 1);
    int stand_in = sb_msg_steal_fd(&msg, 0);
    sb_msg_done(&msg);
    put(stand_in, "typed\n");
    expect(slave, "typed\n");
    expect(stand_in, "typed\r\n");
    close(slave);
    expect_end(stand_in);
    close(stand_in);
    close_session(&cli);
    close_session(&init);
}

static void test_terminal_hangs_up(void **state)
{
    struct session cli;
    struct session init;
    struct sb_msg msg;
    open_session(*state, &cli, &init);
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlock = 0;
    assert_return_code(ioctl(master, TIOCSPTLCK, &unlock), errno);
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    send_json(init.channel, json_pack("{s:s}", "event", "started"), &master, 1);
    close(master);
    receive(cli.channel, &msg, 1);
    sb_msg_done(&msg);
    await(slave, 0);
    close(slave);
    close_session(&cli);
    close_session(&init);
}

/* The same user as the link's, and another, can open what stands in for a pipe again. */
static void test_reopened(void **state)
{
    struct session cli;
    struct session init;
    struct stat st;
    open_session(*state, &cli, &init);
    const int fds[] = {init.in, init.out, init.errs};
    for (size_t i = 0; i < SB_ARRAY_LEN(fds); i++) {
        assert_return_code(fstat(fds[i], &st), errno);
        assert_true(S_ISFIFO(st.st_mode));
        assert_int_equal(st.st_mode & 0777, 0666);
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("/proc/self/fd/%d", init.out);
    int again = open(path, O_WRONLY | O_CLOEXEC);
    assert_return_code(again, errno);
    put(again, "by another way");
    close(again);
    expect(cli.out, "by another way");
    close_session(&cli);
    close_session(&init);
}

/* Moves `total` bytes from a pipe's end to another, in this process. */
static void move(int to, int from, size_t total)
{
    static char data[CHUNK];
    size_t sent = 0;
    size_t got = 0;
    assert_int_equal(descriptor_unblock(to), 0);
    assert_int_equal(descriptor_unblock(from), 0);
    while (got < total) {
        struct pollfd polled[] = {{.fd = from, .events = POLLIN},
                                  {.fd = sent < total ? to : -1, .events = POLLOUT}};
        assert_true(poll(polled, 2, PATIENCE_MS) > 0);
        if (polled[1].revents) {
            size_t len = total - sent < CHUNK ? total - sent : CHUNK;
            for (size_t i = 0; i < len; i++) {
                data[i] = (char)((sent + i) % 251);
            }
            ssize_t n = write(to, data, len);
            assert_true(n > 0 || errno == EAGAIN);
            sent += n > 0 ? (size_t)n : 0;
        }
        ssize_t n = polled[0].revents ? read(from, data, CHUNK) : 0;
        for (ssize_t i = 0; i < n; i++) {
            if (data[i] != (char)((got + (size_t)i) % 251)) {
                fail_msg("byte %zu is wrong", got + (size_t)i);
            }
        }
        got += n > 0 ? (size_t)n : 0;
    }
}

static void test_blocked_beside_busy(void **state)
{
    enum { SESSIONS = 40 };
    struct session cli[SESSIONS];
    struct session init[SESSIONS];
    for (size_t i = 0; i < SESSIONS; i++) {
        open_session(*state, &cli[i], &init[i]);
    }
    for (size_t i = 1; i < SESSIONS; i++) {
        fcntl(init[i].out, F_SETFL, O_NONBLOCK);
        for (int n = 0; n < 20; n++) {
            assert_true(write(init[i].out, junk, sizeof(junk)) > 0 || errno == EAGAIN);
        }
        assert_int_equal(write(cli[i].in, junk, 4096), 4096);
    }
    move(init[0].out, cli[0].out, 32 << 20);
    move(cli[0].in, init[0].in, 32 << 20);
    for (size_t i = 0; i < SESSIONS; i++) {
        close_session(&cli[i]);
        close_session(&init[i]);
    }
}

static void test_many_sessions(void **state)
{
    enum { SESSIONS = 3000 };
    for (int i = 0; i < SESSIONS; i++) {
        struct session cli;
        struct session init;
        open_session(*state, &cli, &init);
        put(init.out, "x");
        expect(cli.out, "x");
        close_session(i % 2 ? &cli : &init);
        close_session(i % 2 ? &init : &cli);
    }
}

/* More descriptors than there are ids for: the message is lost, its sender sees that, and all goes
 * on when others have been closed. */
static void test_ids_run_out(void **state)
{
    const struct pair *pair = *state;
    enum { SESSIONS = (LINK_SLOTS - 1) / 4 };
    struct session *cli = sb_xcalloc(SESSIONS, sizeof(*cli));
    struct session *init = sb_xcalloc(SESSIONS, sizeof(*init));
    for (size_t i = 0; i < SESSIONS; i++) {
        open_session(pair, &cli[i], &init[i]);
    }
    int channel[2];
    int more[4];
    socket_pair(SOCK_SEQPACKET, channel);
    for (size_t i = 0; i < 4; i++) {
        more[i] = dup(channel[1]);
    }
    send_json(pair->supervisor, json_object(), more, 4);
    close(channel[1]);
    for (size_t i = 0; i < 4; i++) {
        close(more[i]);
    }
    struct sb_msg msg;
    await(channel[0], POLLIN);
    assert_int_equal(sb_msg_recv(channel[0], &msg, NULL), 0);
    close(channel[0]);
    for (size_t i = 0; i < SESSIONS; i++) {
        close_session(&cli[i]);
        close_session(&init[i]);
    }
    await_fds(pair->host.pid, pair->host_fds);
    open_session(pair, &cli[0], &init[0]);
    close_session(&cli[0]);
    close_session(&init[0]);
    free(cli);
    free(init);
}

/* A message that waits for its turn keeps the ids for its descriptors, whoever else wants some. */
static void test_ids_reserved(void **state)
{
    struct session cli;
    struct session init;
    struct session other_cli;
    struct session other_init;
    struct sb_msg msg;
    int held[2];
    int *ends = sb_xcalloc((size_t)2 * LINK_SLOTS, sizeof(int));
    size_t n = 0;
    open_session(*state, &cli, &init);
    open_session(*state, &other_cli, &other_init);
    fill(init.out);
    socket_pair(SOCK_STREAM, held);
    send_json(init.channel, json_object(), &held[1], 1);
    close(held[1]);
    for (int r = 1; r == 1;) {
        int pair[2];
        socket_pair(SOCK_STREAM, pair);
        send_json(other_init.channel, json_object(), &pair[1], 1);
        close(pair[1]);
        struct pollfd polled[] = {{.fd = other_cli.channel, .events = POLLIN},
                                  {.fd = pair[0], .events = POLLIN}};
        assert_true(poll(polled, 2, PATIENCE_MS) > 0);
        ends[n++] = pair[0];
        r = polled[0].revents ? sb_msg_recv(other_cli.channel, &msg, NULL) : 0;
        if (r == 1) {
            ends[n++] = sb_msg_steal_fd(&msg, 0);
            sb_msg_done(&msg);
        }
    }
    assert_int_equal(n, 2 * (LINK_SLOTS - 1) + 1);
    read_until_message(cli.out, cli.channel);
    receive(cli.channel, &msg, 1);
    put(held[0], "here");
    expect(msg.fds[0], "here");
    sb_msg_done(&msg);
    close(held[0]);
    while (n > 0) {
        close(ends[--n]);
    }
    free(ends);
    close_session(&cli);
    close_session(&init);
    close_session(&other_cli);
    close_session(&other_init);
}

/* A command line that does not read its channel loses it, and nobody else anything. */
static void test_channel_not_read(void **state)
{
    struct session cli;
    struct session init;
    struct session other_cli;
    struct session other_init;
    open_session(*state, &cli, &init);
    open_session(*state, &other_cli, &other_init);
    fcntl(init.channel, F_SETFL, O_NONBLOCK);
    SB_CLEANUP(json) json_t *event = json_pack("{s:s}", "event", "stopped");
    int r = 0;
    while (r != -EPIPE) {
        r = sb_msg_send(init.channel, event, NULL, 0, NULL);
        if (r == -EAGAIN) {
            await(init.channel, POLLOUT);
        }
    }
    put(other_init.out, "alive");
    expect(other_cli.out, "alive");
    close_session(&cli);
    close_session(&init);
    close_session(&other_cli);
    close_session(&other_init);
}

/* ---- one link and a hostile wire ---- */

struct alone {
    struct relay relay;
    int wire, orders;
};

static int start_alone(struct alone *alone, enum link_side side)
{
    int wire[2];
    int orders[2];
    signal(SIGPIPE, SIG_IGN);
    socket_pair(SOCK_STREAM, wire);
    socket_pair(SOCK_SEQPACKET, orders);
    alone->relay = start_relay(side, wire[0], orders[1], false);
    alone->wire = wire[1];
    alone->orders = orders[0];
    return 0;
}

static void end_alone(struct alone *alone)
{
    end_relay(&alone->relay);
    close(alone->wire);
    close(alone->orders);
}

/* Returns the size of the frame that was put at `to`.  A payload that is missing is only announced.
 */
static size_t put_frame(char *to, const struct frame *frame)
{
    frame_write_header(to, frame);
    if (!frame->bytes) {
        return FRAME_HEADER;
    }
    memcpy(to + FRAME_HEADER, frame->bytes, frame->len);
    return FRAME_HEADER + frame->len;
}

static void write_frame(int wire, struct frame frame)
{
    char data[FRAME_MAX];
    size_t len = put_frame(data, &frame);
    /* A link that has ended already takes no more. */
    send(wire, data, len, MSG_NOSIGNAL);
}

static void greet(int wire, enum link_side side)
{
    write_frame(wire, (struct frame){.type = FRAME_HELLO,
                                     .id = (uint32_t)side,
                                     .bytes = frame_greeting,
                                     .len = FRAME_GREETING});
}

/* Ids that the host's link gives to the descriptors of the first message. */
enum { GENERATION = LINK_SLOTS, CHANNEL = GENERATION + 1, IN, OUT, ERRS };
static const uint32_t theirs = 1U << 31;

static void open_known_session(const struct alone *alone, struct session *cli)
{
    int channel[2];
    int in[2];
    int out[2];
    int errs[2];
    char frame[400];
    socket_pair(SOCK_SEQPACKET, channel);
    assert_return_code(pipe2(in, O_CLOEXEC), errno);
    assert_return_code(pipe2(out, O_CLOEXEC), errno);
    assert_return_code(pipe2(errs, O_CLOEXEC), errno);
    const int far[] = {channel[1], in[0], out[1], errs[1]};
    send_json(alone->orders, json_object(), far, 4);
    for (size_t i = 0; i < SB_ARRAY_LEN(far); i++) {
        close(far[i]);
    }
    *cli = (struct session){channel[0], in[1], out[0], errs[0]};
    /* The greeting, then the message with their list. */
    const size_t len = 2 * FRAME_HEADER + FRAME_GREETING + 4 * FRAME_DESCRIPTOR + 2;
    size_t got = 0;
    while (got < len) {
        await(alone->wire, POLLIN);
        ssize_t n = read(alone->wire, frame + got, len - got);
        assert_true(n > 0);
        got += (size_t)n;
    }
    struct frame message;
    const char *second = frame + FRAME_HEADER + FRAME_GREETING;
    assert_true(frame_read(second, len, &message, NULL) > 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(frame_descriptor(&message, i).id, CHANNEL + i);
    }
}

#define TEXT(text) .bytes = (text), .len = sizeof(text) - 1

/* A message frame of `{}` that brings one descriptor. */
static struct frame bring(char *room, uint32_t channel, enum frame_kind kind, uint32_t id)
{
    struct frame_descriptor descriptor = {.kind = kind, .id = id};
    frame_write_descriptor(room, &descriptor);
    room[FRAME_DESCRIPTOR] = '{';
    room[FRAME_DESCRIPTOR + 1] = '}';
    return (struct frame){.type = FRAME_MESSAGE,
                          .id = channel,
                          .count = 1,
                          .bytes = room,
                          .len = FRAME_DESCRIPTOR + 2};
}

static void test_hostile_frames(void **state)
{
    (void)state;
    char credit[4];
    char rooms[7][16];
    frame_write_credit(credit, LINK_WINDOW_MAX);
    const struct {
        const char *says;
        struct frame frames[3];
    } cases[] = {
        {"not open", {{.type = FRAME_DATA, .id = 5, TEXT("x")}}},
        {"not open", {{.type = FRAME_EOF, .id = theirs | CHANNEL}}},
        {"not open", {{.type = FRAME_MESSAGE, .id = IN, TEXT("{}")}}},
        {"not open", {{.type = FRAME_STOP, .id = CHANNEL + LINK_SLOTS}}},
        {"repeated", {{.type = FRAME_HELLO, .id = LINK_GUEST, .bytes = frame_greeting, .len = 8}}},
        {"behind the end", {{.type = FRAME_DATA, .id = IN, TEXT("x")}}},
        {"ended twice", {{.type = FRAME_EOF, .id = IN}}},
        {"stopped twice", {{.type = FRAME_STOP, .id = OUT}}},
        {"stopped twice", {{.type = FRAME_STOP, .id = IN}, {.type = FRAME_STOP, .id = IN}}},
        {"ended twice", {{.type = FRAME_EOF, .id = OUT}, {.type = FRAME_EOF, .id = OUT}}},
        {"behind the end",
         {{.type = FRAME_EOF, .id = OUT}, {.type = FRAME_DATA, .id = OUT, TEXT("x")}}},
        {"more bytes than it was allowed",
         {{.type = FRAME_DATA, .id = OUT, .bytes = junk, .len = LINK_WINDOW + 1}}},
        {"more credit", {{.type = FRAME_CREDIT, .id = IN, .bytes = credit, .len = 4}}},
        {"more credit", {{.type = FRAME_CREDIT, .id = OUT, .bytes = credit, .len = 4}}},
        {"bytes for a channel", {{.type = FRAME_DATA, .id = CHANNEL, TEXT("x")}}},
        {"bytes for a channel", {{.type = FRAME_STOP, .id = CHANNEL}}},
        {"ends twice", {{.type = FRAME_EOF, .id = CHANNEL}, {.type = FRAME_EOF, .id = CHANNEL}}},
        {"not open",
         {{.type = FRAME_EOF, .id = CHANNEL}, {.type = FRAME_MESSAGE, .id = CHANNEL, TEXT("{}")}}},
        {"within a message",
         {{.type = FRAME_MESSAGE, .id = CHANNEL, .more = true, TEXT("{")},
          {.type = FRAME_EOF, .id = CHANNEL}}},
        {"between the pieces",
         {{.type = FRAME_MESSAGE, .id = CHANNEL, .more = true, TEXT("{")},
          {.type = FRAME_MESSAGE, .id = 0, TEXT("}")}}},
        {"not a JSON object", {{.type = FRAME_MESSAGE, .id = 0, TEXT("[]")}}},
        {"not a JSON object", {{.type = FRAME_MESSAGE, .id = 0, TEXT("{\"a\":1,\"a\":2}")}}},
        {"no guest has to send", {bring(rooms[0], 0, FRAME_BOTH, theirs)}},
        {"no guest has to send", {bring(rooms[1], CHANNEL, FRAME_CHANNEL, theirs)}},
        {"no guest has to send", {bring(rooms[2], CHANNEL, FRAME_SINK, theirs)}},
        {"not the sender's", {bring(rooms[3], CHANNEL, FRAME_BOTH, 7)}},
        {"in use",
         {bring(rooms[4], CHANNEL, FRAME_BOTH, theirs | 1),
          bring(rooms[5], CHANNEL, FRAME_BOTH, theirs | 1)}},
        {"nobody understands", {{.type = FRAME_CONTROL, TEXT("[]")}}},
        {"what does that mean", {{.type = FRAME_CONTROL, TEXT("{}")}}},
        {"unknown type 99", {{.type = (enum frame_type)99}}},
        {"a DATA frame of 65537 bytes", {{.type = FRAME_DATA, .id = OUT, .len = 65537}}},
        {"the other end of the link has ended", {{.type = FRAME_EOF, .id = 0}}},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct alone alone;
        struct session cli;
        start_alone(&alone, LINK_HOST);
        greet(alone.wire, LINK_GUEST);
        open_known_session(&alone, &cli);
        /* All at once: the link answers in between otherwise. */
        char data[2 * FRAME_MAX];
        size_t len = 0;
        const struct frame *frames = cases[i].frames;
        for (size_t n = 0; n < SB_ARRAY_LEN(cases[i].frames) && frames[n].type; n++) {
            len += put_frame(data + len, &frames[n]);
        }
        assert_int_equal(write(alone.wire, data, len), (int)len);
        assert_word(&alone.relay, cases[i].says);
        /* Everything is closed with it. */
        struct sb_msg msg;
        assert_int_equal(sb_msg_recv(alone.orders, &msg, NULL), 0);
        expect_end(cli.errs);
        await(cli.in, 0);
        end_alone(&alone);
        close_session(&cli);
    }
}

static void test_not_a_link(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        struct frame frame;
    } cases[] = {
        {"greeting", {.type = FRAME_MESSAGE, .id = 0, TEXT("{}")}},
        {"greeting", {.type = FRAME_HELLO, .id = LINK_GUEST, TEXT("sbxlink2")}},
        {"greeting", {.type = FRAME_HELLO, .id = LINK_HOST, TEXT("sbxlink1")}},
        {"greeting", {.type = FRAME_HELLO, .id = 7, TEXT("sbxlink1")}},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct alone alone;
        start_alone(&alone, LINK_HOST);
        write_frame(alone.wire, cases[i].frame);
        assert_word(&alone.relay, cases[i].says);
        end_alone(&alone);
    }
    struct alone alone;
    start_alone(&alone, LINK_GUEST);
    close(alone.wire);
    assert_word(&alone.relay, "the other end of the link is gone");
    alone.wire = dup(0);
    end_alone(&alone);
}

static size_t resident_bytes(pid_t pid)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("/proc/%d/statm", pid);
    FILE *file = fopen(path, "re");
    size_t total;
    size_t resident;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &total, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* The largest messages that a guest may send, to a supervisor that takes none: the link ends before
 * the host has lost more than the bound says. */
static void test_flood_of_messages(void **state)
{
    (void)state;
    struct alone alone;
    start_alone(&alone, LINK_HOST);
    greet(alone.wire, LINK_GUEST);
    char piece[FRAME_PIECE_MAX];
    size_t sent = 0;
    const size_t before = resident_bytes(alone.relay.pid);
    size_t most = before;
    struct pollfd polled = {.fd = alone.relay.words, .events = POLLIN};
    while (poll(&polled, 1, 0) == 0) {
        memset(piece, ' ', sizeof(piece));
        piece[0] = '{';
        piece[sizeof(piece) - 1] = '}';
        write_frame(alone.wire,
                    (struct frame){.type = FRAME_MESSAGE, .bytes = piece, .len = sizeof(piece)});
        sent += sizeof(piece);
        size_t now = resident_bytes(alone.relay.pid);
        most = now > most ? now : most;
    }
    assert_word(&alone.relay, "more messages than anybody takes");
    assert_true(sent >= LINK_LETTERS_MAX / 2);
    assert_true(most - before < 3 * (size_t)LINK_LETTERS_MAX);
    end_alone(&alone);
}

/* ---- frames and rings by themselves ---- */

static void test_frames(void **state)
{
    (void)state;
    char data[FRAME_HEADER + 3 * FRAME_DESCRIPTOR + 2];
    struct frame frame = {.type = FRAME_MESSAGE, .id = 0xfedcba98, .count = 3};
    frame.len = sizeof(data) - FRAME_HEADER;
    frame_write_header(data, &frame);
    for (uint32_t i = 0; i < 3; i++) {
        struct frame_descriptor descriptor = {.kind = FRAME_SOURCE, .id = theirs | i};
        frame_write_descriptor(data + FRAME_HEADER + i * FRAME_DESCRIPTOR, &descriptor);
    }
    data[sizeof(data) - 2] = '{';
    data[sizeof(data) - 1] = '}';
    for (size_t len = 0; len < sizeof(data); len++) {
        assert_int_equal(frame_read(data, len, &frame, NULL), 0);
    }
    assert_int_equal(frame_read(data, sizeof(data), &frame, NULL), (int)sizeof(data));
    assert_int_equal(frame.id, 0xfedcba98);
    assert_int_equal(frame.count, 3);
    assert_int_equal(frame_descriptor(&frame, 2).kind, FRAME_SOURCE);
    assert_int_equal(frame_descriptor(&frame, 2).id, theirs | 2);
    size_t len;
    assert_memory_equal(frame_text(&frame, &len), "{}", 2);
    assert_int_equal(len, 2);
}

static void test_bad_frames(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        unsigned char header[FRAME_HEADER];
    } cases[] = {
        {"unknown type 0", {0}},
        {"unknown type 8", {8}},
        {"what it cannot", {FRAME_DATA, 1, 0, 0, 1, 0, 0, 0, 1}},
        {"what it cannot", {FRAME_DATA, 0, 1, 0, 1, 0, 0, 0, 8}},
        {"what it cannot", {FRAME_DATA, 0, 0, 1, 1, 0, 0, 0, 1}},
        {"what it cannot", {FRAME_MESSAGE, 1, 1, 0, 1, 0, 0, 0, 16}},
        {"what it cannot", {FRAME_MESSAGE, 2, 0, 0, 1, 0, 0, 0, 2}},
        {"what it cannot", {FRAME_CONTROL, 0, 0, 0, 1, 0, 0, 0, 2}},
        {"of 0 bytes", {FRAME_DATA, 0, 0, 0, 1}},
        {"of 3 bytes", {FRAME_CREDIT, 0, 0, 0, 1, 0, 0, 0, 3}},
        {"of 1 bytes", {FRAME_EOF, 0, 0, 0, 1, 0, 0, 0, 1}},
        {"of 4294967295 bytes", {FRAME_DATA, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255}},
        {"with 17 descriptors", {FRAME_MESSAGE, 0, 17, 0, 1, 0, 0, 0, 200}},
        {"with 2 descriptors", {FRAME_MESSAGE, 0, 2, 0, 1, 0, 0, 0, 16}},
        {"with 1 descriptors", {FRAME_MESSAGE, 0, 1, 0, 1, 0, 0, 0, 9, 128}},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct frame frame;
        struct sb_err *err = NULL;
        assert_int_equal(frame_read((const char *)cases[i].header, FRAME_HEADER, &frame, &err),
                         SB_EPROTO);
        assert_non_null(strstr(err->message, cases[i].says));
        sb_err_free(err);
    }
}

static void test_ring(void **state)
{
    (void)state;
    struct ring ring = {0};
    char expected = 0;
    char next = 0;
    size_t sizes[] = {1, 99, 100, 37, 64, 3};
    for (size_t round = 0; round < 1000; round++) {
        char bytes[100];
        size_t len = sizes[round % SB_ARRAY_LEN(sizes)];
        if (ring.len + len <= 200) {
            for (size_t i = 0; i < len; i++) {
                bytes[i] = next++;
            }
            ring_put(&ring, bytes, len, round < 500 ? 200 : 300);
        }
        struct iovec parts[2];
        int count = ring_peek(&ring, parts);
        size_t take = ring.len < 41 ? ring.len : 41;
        for (size_t i = 0; i < take; i++) {
            const struct iovec *part = &parts[i >= parts[0].iov_len];
            size_t at = i >= parts[0].iov_len ? i - parts[0].iov_len : i;
            assert_true(part - parts < count && at < part->iov_len);
            assert_int_equal(((char *)part->iov_base)[at], expected);
            expected++;
        }
        ring_take(&ring, take);
    }
    ring_done(&ring);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, start_pair, end_pair)

/* As sbx itself does for a machine: the usual 1,024 descriptors are too few for all sessions. */
static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(void)
{
    allow_descriptors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_ring),
        WITH_PAIR(test_messages),
        WITH_PAIR(test_large_message),
        WITH_PAIR(test_session),
        WITH_PAIR(test_reader_gone),
        WITH_PAIR(test_order),
        WITH_PAIR(test_signal_overtakes_input),
        WITH_PAIR(test_connection),
        WITH_PAIR(test_connection_dropped),
        WITH_PAIR(test_content),
        WITH_PAIR(test_terminal),
        WITH_PAIR(test_terminal_hangs_up),
        WITH_PAIR(test_reopened),
        WITH_PAIR(test_blocked_beside_busy),
        WITH_PAIR(test_many_sessions),
        WITH_PAIR(test_ids_run_out),
        WITH_PAIR(test_ids_reserved),
        WITH_PAIR(test_channel_not_read),
        cmocka_unit_test(test_hostile_frames),
        cmocka_unit_test(test_not_a_link),
        cmocka_unit_test(test_flood_of_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
