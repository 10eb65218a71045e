/* SPDX-License-Identifier: Apache-2.0
 * Sessions: a command, its process group, and the channel to the command line that asked for it.
 *
 * A session lives from the fork of its leader until the leader has been reaped and its end has been
 * reported; until the reaping its process id cannot be used again, so signals never go astray. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "init/account.h"
#include "init/init.h"

struct session {
    struct init *init;
    struct session *prev, *next;
    pid_t pid;   /* 0 once reaped */
    int channel; /* -1 when the command line has gone */
    int report_fd, master_fd;
    sb_watch channel_watch, report_watch;
    bool detach, tty;
    json_t *last_event; /* the end, not yet delivered */
};

static void close_channel(struct session *s)
{
    sb_loop_unwatch(s->init->loop, s->channel_watch);
    s->channel_watch = 0;
    if (s->channel >= 0) {
        close(sb_steal_fd(&s->channel));
    }
}

static void close_report(struct session *s)
{
    sb_loop_unwatch(s->init->loop, s->report_watch);
    s->report_watch = 0;
    if (s->report_fd >= 0) {
        close(sb_steal_fd(&s->report_fd));
    }
}

static void session_free(struct session *s)
{
    close_channel(s);
    close_report(s);
    if (s->master_fd >= 0) {
        close(s->master_fd);
    }
    if (s->prev) {
        s->prev->next = s->next;
    } else if (s->init->sessions == s) {
        s->init->sessions = s->next;
    }
    if (s->next) {
        s->next->prev = s->prev;
    }
    json_decref(s->last_event);
    free(s);
}

/* Takes `event`; an event that a full channel refuses is dropped. */
static int send_event(const struct session *s, json_t *event, int fd)
{
    SB_CLEANUP(json) json_t *owned = event;
    return s->channel < 0 ? -EPIPE : sb_msg_send(s->channel, owned, &fd, fd >= 0, NULL);
}

/* A name in `text` may have been cut within a character, which JSON would not take. */
static void send_failed(int channel, int errnum, const char *text)
{
    SB_CLEANUP(free) char *shown = sb_printable(text, "");
    SB_CLEANUP(json)
    json_t *event =
        json_pack("{s:s, s:i, s:s}", "event", "failed", "errno", errnum, "error", shown);
    if (channel >= 0) {
        sb_msg_send(channel, event, NULL, 0, NULL);
    }
}

static void signal_group(const struct session *s, int signo)
{
    /* Before its setsid() the leader has no group yet. */
    if (s->pid > 0 && kill(-s->pid, signo) < 0) {
        kill(s->pid, signo);
    }
}

/* Delivers the end and frees the session, or waits for room in the channel. */
static void deliver_end(struct session *s)
{
    if (s->channel >= 0 && sb_msg_send(s->channel, s->last_event, NULL, 0, NULL) == -EAGAIN) {
        sb_loop_modify(s->init->loop, s->channel_watch, EPOLLOUT);
        return;
    }
    session_free(s);
}

static void hang_up(struct session *s)
{
    close_channel(s);
    /* The last master: with it the terminal hangs up. */
    if (s->master_fd >= 0) {
        close(sb_steal_fd(&s->master_fd));
    }
    if (!s->pid) {
        session_free(s);
    } else if (!s->detach) {
        signal_group(s, SIGHUP);
        signal_group(s, SIGCONT);
    }
}

static struct winsize window_size(const json_t *message)
{
    return (struct winsize){.ws_row = (unsigned short)sb_json_int(message, "rows", 24),
                            .ws_col = (unsigned short)sb_json_int(message, "cols", 80)};
}

/* To whatever is in the foreground of the terminal, when asked for and there is one. */
static void take_signal(const struct session *s, const json_t *message)
{
    json_int_t signo = sb_json_int(message, "signo", 0);
    bool foreground = json_is_true(json_object_get(message, "foreground"));
    if (signo <= 0 || signo >= NSIG) {
        return;
    }
    if (!foreground || s->master_fd < 0 || ioctl(s->master_fd, TIOCSIG, (int)signo) < 0) {
        signal_group(s, (int)signo);
    }
}

static void on_channel(void *arg, uint32_t events)
{
    struct session *s = arg;
    if (!s->pid && (events & EPOLLOUT)) {
        deliver_end(s);
        return;
    }
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv(s->channel, &msg, NULL);
    if (r == -EAGAIN && !(events & (EPOLLHUP | EPOLLERR))) {
        return;
    }
    if (r <= 0) {
        hang_up(s);
        return;
    }
    const char *op = sb_json_str(msg.json, "op");
    if (op && strcmp(op, "signal") == 0) {
        take_signal(s, msg.json);
    } else if (op && strcmp(op, "resize") == 0 && s->master_fd >= 0) {
        const struct winsize size = window_size(msg.json);
        ioctl(s->master_fd, TIOCSWINSZ, &size);
    }
}

/* The child has either become the command (end of file) or says why not. */
static void on_report(void *arg, uint32_t events)
{
    (void)events;
    struct session *s = arg;
    struct child_report report = {0};
    ssize_t n = read(s->report_fd, &report, sizeof(report));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    close_report(s);
    if (n == (ssize_t)sizeof(report)) {
        report.text[sizeof(report.text) - 1] = '\0';
        send_failed(s->channel, report.errnum, report.text);
        /* The child is about to exit; nobody is told of that. */
        close_channel(s);
    } else {
        send_event(s, json_pack("{s:s, s:i}", "event", "started", "pid", (int)s->pid),
                   s->master_fd);
    }
}

void session_hang_up_terminals(const struct init *init)
{
    for (const struct session *s = init->sessions; s; s = s->next) {
        if (s->tty) {
            signal_group(s, SIGHUP);
        }
    }
}

static struct session *find_session(const struct init *init, pid_t pid)
{
    struct session *s = init->sessions;
    while (s && s->pid != pid) {
        s = s->next;
    }
    return s;
}

void session_child_event(struct init *init, const siginfo_t *info)
{
    struct session *s = find_session(init, info->si_pid);
    if (!s) {
        return;
    }
    if (info->si_code == CLD_STOPPED) {
        send_event(s, json_pack("{s:s, s:i}", "event", "stopped", "signal", info->si_status), -1);
        return;
    }
    if (s->report_fd >= 0) {
        /* It was so quick that its report is still unread: "started" comes before "exit". */
        on_report(s, 0);
    }
    const char *what = info->si_code == CLD_EXITED ? "status" : "signal";
    s->last_event = json_pack("{s:s, s:i}", "event", "exit", what, info->si_status);
    s->pid = 0;
    deliver_end(s);
}

/* The pair of a new terminal of the sandbox.  The slave is opened through the master, so that
 * nothing depends on what the sandbox has made of /dev/pts. */
static int open_terminal(const json_t *message, int *ret_master, int *ret_slave)
{
    SB_CLEANUP(fd) int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    int unlock = 0;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0) {
        return -errno;
    }
    SB_CLEANUP(fd) int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) {
        return -errno;
    }
    const struct winsize size = window_size(message);
    ioctl(master, TIOCSWINSZ, &size);
    fcntl(master, F_SETFL, O_RDWR);
    *ret_master = sb_steal_fd(&master);
    *ret_slave = sb_steal_fd(&slave);
    return 0;
}

/* Fills setup->fds with descriptors owned by `fds`. */
static int take_standard_fds(struct sb_msg *msg, struct child_setup *setup, int fds[3],
                             struct session *s)
{
    if (setup->tty) {
        int r = open_terminal(msg->json, &s->master_fd, &fds[0]);
        setup->fds[0] = setup->fds[1] = setup->fds[2] = fds[0];
        return r;
    }
    for (size_t i = 0; i < 3; i++) {
        fds[i] = sb_msg_steal_fd(msg, i + 1);
        if (fds[i] < 0) {
            fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        }
        if (fds[i] < 0) {
            return -errno;
        }
        setup->fds[i] = fds[i];
    }
    return 0;
}

static int fork_child(struct session *s, struct child_setup *setup)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    s->report_fd = pipe_fds[0];
    setup->report_fd = pipe_fds[1];
    pid_t pid = fork();
    int saved = errno;
    if (pid == 0) {
        child_run(s->init, setup);
    }
    close(pipe_fds[1]);
    s->pid = pid > 0 ? pid : 0;
    return pid < 0 ? -saved : 0;
}

static int start_command(struct session *s, struct sb_msg *msg)
{
    struct child_setup setup = {.message = msg->json,
                                .tty = json_is_true(json_object_get(msg->json, "tty"))};
    int fds[3] = {-1, -1, -1};
    int r = take_standard_fds(msg, &setup, fds, s);
    if (r == 0) {
        r = fork_child(s, &setup);
    }
    for (size_t i = 0; i < 3; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    return r;
}

void session_start(struct init *init, struct sb_msg *msg)
{
    SB_CLEANUP(fd) int channel = sb_msg_steal_fd(msg, 0);
    if (channel < 0) {
        return;
    }
    fcntl(channel, F_SETFL, O_RDWR | O_NONBLOCK);
    if (init->stopping) {
        send_failed(channel, ESHUTDOWN, "the sandbox is stopping");
        return;
    }
    struct session *s = sb_xcalloc(1, sizeof(*s));
    *s = (struct session){.init = init, .channel = -1, .report_fd = -1, .master_fd = -1};
    s->detach = json_is_true(json_object_get(msg->json, "detach"));
    s->tty = json_is_true(json_object_get(msg->json, "tty"));
    int r = start_command(s, msg);
    if (r < 0) {
        SB_CLEANUP(free)
        char *text = sb_xasprintf("cannot start a process in the sandbox: %s", strerror(-r));
        send_failed(channel, -r, text);
        session_free(s);
        return;
    }
    s->channel = sb_steal_fd(&channel);
    s->next = init->sessions;
    if (s->next) {
        s->next->prev = s;
    }
    init->sessions = s;
    s->channel_watch = sb_loop_watch(init->loop, s->channel, EPOLLIN, on_channel, s);
    s->report_watch = sb_loop_watch(init->loop, s->report_fd, EPOLLIN, on_report, s);
}
