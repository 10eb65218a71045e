/* SPDX-License-Identifier: Apache-2.0
 * A command inside a running sandbox, attached to our terminal, our pipes, or a caller's sink.
 *
 * With a terminal, sbx-init makes a pseudo-terminal inside and hands us its master, or a socket to
 * it from another kernel: we copy bytes, and ^C or ^Z are bytes for the line discipline inside.
 * Without one, three pipes are made here: a descriptor of the host's own (a terminal, a file) never
 * enters the sandbox.
 *
 * Signals to us: without a terminal they go to the command's process group; who asks for its end
 * three times in a row is let go, since the command, or its whole kernel, may not answer.  With a
 * terminal, interrupts go to whatever is in the foreground inside, and SIGTERM or SIGHUP hangs up,
 * as ssh does: an interactive shell would ignore the first. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>

#include "base/fs.h"
#include "sandbox/client.h"

enum {
    CHUNK = 65536,
    DRAINS_MAX = 64, /* a pipe holds at most 1 MiB: enough for what stood there at the end */
    DRAIN_TTY_MS = 200,
    ENDS_MAX = 3,     /* signals to end, before we go, */
    ENDS_APART_S = 2, /* each so long after the one before */
    EXIT_NOT_RUNNABLE = 126,
    EXIT_NOT_FOUND = 127,
    EXIT_SIGNAL = 128
};

struct session {
    const char *name; /* of the sandbox */
    int channel;      /* to sbx-init */
    int in;           /* what we write to: pty master or pipe; -1 closed */
    int out, errs;    /* what we read from */
    int signals;      /* signalfd */
    const struct sandbox_exec *exec;
    /* Input that the command has not taken yet.  We never block on it: the command may itself be
     * waiting for us to take its output.  CHUNK bytes, once there was any. */
    char *pending;
    size_t pending_len, pending_at;
    bool ended;
    int status;
    int interrupted; /* the signal that ended a caller's step, or 0 */
    int lost;        /* why output could not be delivered (errno), or 0; not that nobody wants it */
    int ends;        /* signals that asked a command without a terminal to end */
    time_t last_end; /* when the last of them came (CLOCK_MONOTONIC) */
};

static void session_done(struct session *s)
{
    int *const fds[] = {&s->channel, &s->out, &s->errs, &s->signals};
    if (s->in >= 0 && s->in != s->out) {
        close(s->in);
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(fds); i++) {
        sb_cleanup_fd(fds[i]);
    }
    free(s->pending);
}

/* ---- the request ---- */

static bool window_size(struct winsize *ret)
{
    return ioctl(STDIN_FILENO, TIOCGWINSZ, ret) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, ret) == 0;
}

/* Messages are JSON, so words must be UTF-8: one that is not must not vanish. */
static int put_words(const struct sandbox_exec *exec, json_t *request, struct sb_err **err)
{
    json_t *argv = json_array();
    json_object_set_new(request, "argv", argv);
    for (const char *const *word = exec->argv; *word; word++) {
        if (json_array_append_new(argv, json_string(*word)) < 0) {
            return sb_fail(err, SB_EUSAGE, "'%s': a command's words must be UTF-8 text", *word);
        }
    }
    const char *const options[][2] = {{"user", exec->user}, {"workdir", exec->workdir}};
    for (size_t i = 0; i < SB_ARRAY_LEN(options); i++) {
        const char *text = options[i][1];
        if (text && json_object_set_new(request, options[i][0], json_string(text)) < 0) {
            return sb_fail(err, SB_EUSAGE, "the %s '%s' is not UTF-8 text", options[i][0], text);
        }
    }
    return 0;
}

static int exec_request(const struct sandbox_exec *exec, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json)
    json_t *request =
        json_pack("{s:s,s:b,s:b}", "op", "exec", "tty", exec->tty, "detach", exec->detach);
    int r = put_words(exec, request, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(json)
    json_t *env = exec->env ? json_copy((json_t *)(uintptr_t)exec->env) : json_object();
    const char *term = getenv("TERM");
    if (exec->tty && term && !json_object_get(env, "TERM")) {
        json_object_set_new(env, "TERM", json_string(term));
    }
    json_object_set(request, "env", env);
    struct winsize size;
    if (exec->tty && window_size(&size)) {
        json_object_set_new(request, "rows", json_integer(size.ws_row));
        json_object_set_new(request, "cols", json_integer(size.ws_col));
    }
    *ret = sb_steal(&request);
    return 0;
}

static int request_session(const char *name, struct session *s, const int *fds, size_t nfds,
                           struct sb_err **err)
{
    SB_CLEANUP(json) json_t *request = NULL;
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    int r = exec_request(s->exec, &request, err);
    r = r < 0 ? r : sandbox_ask(name, request, fds, nfds, &reply, err);
    if (r == SB_ELIMIT) {
        sb_wrap(err, r, "the command's arguments and environment");
    }
    if (r < 0) {
        return r;
    }
    s->channel = sb_msg_steal_fd(&reply, 0);
    return s->channel < 0 ? sb_fail(err, SB_EPROTO, "the supervisor opened no session") : 0;
}

/* Makes the three pipes; the far ends go with the request. */
static int open_with_pipes(const char *name, struct session *s, struct sb_err **err)
{
    int in[2] = {-1, -1};
    int out[2] = {-1, -1};
    int errs[2] = {-1, -1};
    int r = 0;
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(errs, O_CLOEXEC) < 0) {
        r = sb_fail_errno(err, errno, "pipe");
    }
    /* Programs open /dev/stdout again, and nobody inside is the user that owns it here.  Only who
     * may trace a process reaches its descriptors that way. */
    fchmod(in[0], 0666);
    fchmod(out[1], 0666);
    fchmod(errs[1], 0666);
    const int far[] = {in[0], out[1], errs[1]};
    r = r < 0 ? r : request_session(name, s, far, 3, err);
    for (size_t i = 0; i < SB_ARRAY_LEN(far); i++) {
        sb_cleanup_fd(&far[i]);
    }
    s->in = in[1];
    fcntl(s->in, F_SETFL, O_WRONLY | O_NONBLOCK);
    s->out = out[0];
    s->errs = errs[0];
    if (!s->exec->interactive && s->in >= 0) {
        close(sb_steal_fd(&s->in));
    }
    return r;
}

/* ---- what sbx-init tells ---- */

static int failed_status(const json_t *event, struct sb_err **err)
{
    int errnum = (int)sb_json_int(event, "errno", 0);
    const char *text = sb_json_str(event, "error");
    sb_fail(err, SB_EFAIL, "%s", text ? text : strerror(errnum));
    return errnum == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE;
}

/* The terminal inside may be another kernel's: what is asked of it goes by way of sbx-init. */
static void copy_window_size(const struct session *s)
{
    struct winsize size;
    if (s->exec->tty && s->out >= 0 && window_size(&size)) {
        SB_CLEANUP(json)
        json_t *message =
            json_pack("{s:s,s:i,s:i}", "op", "resize", "rows", size.ws_row, "cols", size.ws_col);
        sb_msg_send(s->channel, message, NULL, 0, NULL);
    }
}

static void send_signal(const struct session *s, int signo)
{
    bool foreground = s->exec->tty && (signo == SIGINT || signo == SIGQUIT);
    SB_CLEANUP(json)
    json_t *message =
        json_pack("{s:s,s:i,s:b}", "op", "signal", "signo", signo, "foreground", foreground);
    sb_msg_send(s->channel, message, NULL, 0, NULL);
}

/* Returns 1 when the session has ended. `err` is set when the command could not be run. */
static int on_channel(struct session *s, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    /* Our window's size may be what it leaves unread. */
    int r = sb_msg_recv_last(s->channel, &msg, NULL);
    const char *event = r > 0 ? sb_json_str(msg.json, "event") : NULL;
    if (!event) {
        SB_CLEANUP(free) char *why = sandbox_end_reason(s->name);
        sb_fail(err, SB_EFAIL, "the sandbox stopped while the command was running%s%s",
                why ? ": " : "", why ? why : "");
        s->status = EXIT_SIGNAL + SIGKILL;
        s->ended = true;
    } else if (strcmp(event, "started") == 0 && s->exec->tty && s->out < 0) {
        /* One terminal at a time: a guest may say so for ever. */
        s->in = s->out = sb_msg_steal_fd(&msg, 0);
        fcntl(s->in, F_SETFL, O_RDWR | O_NONBLOCK);
        copy_window_size(s); /* it may have changed since we asked */
    } else if (strcmp(event, "failed") == 0) {
        s->status = failed_status(msg.json, err);
        s->ended = true;
    } else if (strcmp(event, "exit") == 0) {
        int signo = (int)sb_json_int(msg.json, "signal", 0);
        s->status = signo ? EXIT_SIGNAL + signo : (int)sb_json_int(msg.json, "status", 0) & 255;
        s->ended = true;
    }
    return s->ended;
}

/* ---- signals ---- */

static void close_in(struct session *s)
{
    if (s->in != s->out && s->in >= 0) {
        close(s->in);
    }
    s->in = -1;
}

/* Ends the session without waiting for the command: with its channel and its terminal closed, the
 * command and all in its foreground get SIGHUP. */
static void hang_up(struct session *s, int signo)
{
    s->ended = true;
    s->status = EXIT_SIGNAL + signo;
    close_in(s);
    sb_cleanup_fd(&s->out);
    sb_cleanup_fd(&s->errs);
    s->out = s->errs = -1;
}

/* Another of the signals that ask for the end: is it one of several, each soon after the last? */
static bool is_impatient(struct session *s)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    s->ends = now.tv_sec - s->last_end <= ENDS_APART_S ? s->ends + 1 : 1;
    s->last_end = now.tv_sec;
    return s->ends >= ENDS_MAX;
}

static void forward_signal(struct session *s)
{
    struct signalfd_siginfo info;
    if (read(s->signals, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return;
    }
    int signo = (int)info.ssi_signo;
    bool interrupt = signo == SIGINT || signo == SIGQUIT;
    bool end = signo == SIGTERM || signo == SIGHUP;
    if (signo == SIGWINCH) {
        copy_window_size(s);
    } else if (s->exec->output && (interrupt || end)) {
        s->interrupted = signo;
        hang_up(s, signo);
    } else if (s->exec->tty && end) {
        hang_up(s, signo);
    } else if (!s->exec->tty && signo != SIGHUP && (interrupt || end) && is_impatient(s)) {
        fputs("sbx: the command does not end: hanging up\n", stderr);
        hang_up(s, signo);
    } else {
        send_signal(s, signo);
    }
}

/* ---- copying ---- */

/* Signals are served while nobody takes our output: a pipe that is ready takes as much as this at
 * once (pipe(7)).  False when there is nobody, or when we have hung up. */
static bool deliver(struct session *s, int fd, const char *data, size_t len)
{
    if (s->exec->output) {
        s->exec->output(s->exec->output_arg, data, len);
        return true;
    }
    while (len > 0) {
        struct pollfd polled[] = {{.fd = fd, .events = POLLOUT},
                                  {.fd = s->signals, .events = POLLIN}};
        if (poll(polled, SB_ARRAY_LEN(polled), -1) < 0 && errno != EINTR) {
            return false;
        }
        if (polled[1].revents) {
            forward_signal(s);
        }
        if (s->out < 0 && s->errs < 0) {
            return false;
        }
        ssize_t n = polled[0].revents ? write(fd, data, len < PIPE_BUF ? len : PIPE_BUF) : 0;
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            s->lost = errno == EPIPE ? s->lost : errno;
            return false;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Copies what is there; closes the source at its end. */
static void pump_out(struct session *s, int *from, int to)
{
    static char data[CHUNK]; /* of a stack, each page would be touched */
    ssize_t n = read(*from, data, sizeof(data));
    bool end = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    /* A pty master reports EIO when nobody has the other side open any more; when our own output
     * is closed, closing the source lets the command see that too (`sbx exec … | head`). */
    if (end || (n > 0 && !deliver(s, to, data, (size_t)n))) {
        close(sb_steal_fd(from));
    }
}

static void flush_in(struct session *s)
{
    ssize_t n = write(s->in, s->pending + s->pending_at, s->pending_len - s->pending_at);
    if (n >= 0) {
        s->pending_at += (size_t)n;
    } else if (errno != EAGAIN && errno != EINTR) {
        close_in(s);
    }
}

static void pump_in(struct session *s)
{
    s->pending = s->pending ? s->pending : sb_xcalloc(1, CHUNK);
    ssize_t n = read(STDIN_FILENO, s->pending, CHUNK);
    s->pending_at = 0;
    s->pending_len = n > 0 ? (size_t)n : 0;
    if (n > 0) {
        flush_in(s);
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    } else if (s->exec->tty) {
        hang_up(s, SIGHUP); /* our terminal is gone */
    } else {
        close_in(s);
    }
}

enum { ON_CHANNEL, ON_OUT, ON_ERRS, ON_STDIN, ON_SIGNALS, ON_IN, POLLED };

/* What to wait for.  While input that the command has not taken is pending, no more is read. */
static void choose_polled(const struct session *s, struct pollfd polled[POLLED])
{
    bool feeds = !s->ended && s->exec->interactive && s->in >= 0;
    bool full = feeds && s->pending_at < s->pending_len;
    polled[ON_CHANNEL] = (struct pollfd){.fd = s->ended ? -1 : s->channel, .events = POLLIN};
    polled[ON_OUT] = (struct pollfd){.fd = s->out, .events = POLLIN};
    polled[ON_ERRS] = (struct pollfd){.fd = s->errs, .events = POLLIN};
    polled[ON_STDIN] = (struct pollfd){.fd = feeds && !full ? STDIN_FILENO : -1, .events = POLLIN};
    polled[ON_SIGNALS] = (struct pollfd){.fd = s->signals, .events = POLLIN};
    polled[ON_IN] = (struct pollfd){.fd = full ? s->in : -1, .events = POLLOUT};
}

static void serve_polled(struct session *s, const struct pollfd polled[POLLED], struct sb_err **err)
{
    if (polled[ON_OUT].revents) {
        pump_out(s, &s->out, STDOUT_FILENO);
        if (s->exec->tty && s->out < 0) {
            s->in = -1;
        }
    }
    if (polled[ON_ERRS].revents) {
        pump_out(s, &s->errs, STDERR_FILENO);
    }
    if (polled[ON_STDIN].revents) {
        pump_in(s);
    }
    if (polled[ON_IN].revents && s->in >= 0) {
        flush_in(s);
    }
    if (polled[ON_SIGNALS].revents) {
        forward_signal(s);
    }
    if (polled[ON_CHANNEL].revents) {
        on_channel(s, err);
    }
}

/* Until the command has ended and its output has been read.  A background child may hold the pipes
 * open for ever: after the end only what is already there is taken. */
static int copy_until_end(struct session *s, struct sb_err **err)
{
    int drains = 0;
    /* The end of a terminal arrives behind its last bytes, and late (the kernel's flip buffer). */
    const int drain_ms = s->exec->tty ? DRAIN_TTY_MS : 0;
    while (!s->ended || ((s->out >= 0 || s->errs >= 0) && drains++ < DRAINS_MAX)) {
        struct pollfd polled[POLLED];
        choose_polled(s, polled);
        int n = poll(polled, POLLED, s->ended ? drain_ms : -1);
        if (n < 0 && errno != EINTR) {
            return sb_fail_errno(err, errno, "poll");
        }
        if (n == 0) {
            break;
        }
        serve_polled(s, polled, err);
    }
    return 0;
}

/* ---- our terminal ---- */

/* What our caller ignores (nohup, a background job) stays ignored. */
static int watch_signals(sigset_t *ret_old)
{
    sigset_t set;
    sigemptyset(&set);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < SB_ARRAY_LEN(signals); i++) {
        struct sigaction action;
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
            sigaddset(&set, signals[i]);
        }
    }
    sigprocmask(SIG_BLOCK, &set, ret_old);
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool raw_terminal(struct termios *ret_saved)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, ret_saved) < 0) {
        return false;
    }
    raw = *ret_saved;
    cfmakeraw(&raw);
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

static int attach(struct session *s, struct sb_err **err)
{
    struct termios saved;
    sigset_t mask;
    s->signals = watch_signals(&mask);
    bool raw = s->exec->tty && s->exec->interactive && raw_terminal(&saved);
    int r = copy_until_end(s, err);
    if (raw) {
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    }
    if (s->interrupted) {
        /* Ends us here, unless the caller has held it back to clean up first. */
        raise(s->interrupted);
        r = sb_fail(err, SB_EFAIL, "interrupted");
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return r;
}

/* A full disk must not look like success: neither when the command had ended before, nor by the
 * signal that our closed pipe gave it. */
static int report_lost(const struct session *s)
{
    if (!s->lost) {
        return s->status;
    }
    fprintf(stderr, "sbx: cannot write the command's output: %s\n", strerror(s->lost));
    return s->status == 0 || s->status == EXIT_SIGNAL + SIGPIPE ? 1 : s->status;
}

int sandbox_run(const char *name, const struct sandbox_exec *exec, int *ret_status,
                struct sb_err **err)
{
    struct session s = {
        .name = name, .channel = -1, .in = -1, .out = -1, .errs = -1, .signals = -1, .exec = exec};
    struct sb_err *why = NULL;
    int r = exec->tty || exec->detach ? request_session(name, &s, NULL, 0, err)
                                      : open_with_pipes(name, &s, err);
    if (r == 0 && exec->detach) {
        on_channel(&s, &why); /* started, or failed */
    } else if (r == 0) {
        r = attach(&s, &why);
    }
    session_done(&s);
    if (r < 0) {
        if (why && err) {
            *err = sb_steal(&why);
        }
        sb_err_free(why);
        return r;
    }
    if (why) {
        /* The command's failure to run has its own exit status: say why here. */
        sb_err_print(why);
        sb_err_free(why);
    }
    *ret_status = report_lost(&s);
    return 0;
}

int sandbox_write_file(const char *name, const char *path, const void *data, size_t len,
                       unsigned mode, unsigned uid, bool only_if_missing, struct sb_err **err)
{
    SB_CLEANUP(fd) int content = sb_memfd("sbx-file", data, len);
    if (content < 0) {
        return sb_fail_errno(err, -content, "hold the content of '%s'", path);
    }
    SB_CLEANUP(json)
    json_t *request =
        json_pack("{s:s,s:s,s:i,s:i,s:i,s:b}", "op", "write", "path", path, "mode", (int)mode,
                  "uid", (int)uid, "gid", (int)uid, "only_if_missing", only_if_missing);
    SB_CLEANUP(msg) struct sb_msg opened = {0};
    int r = sandbox_ask(name, request, &content, 1, &opened, err);
    SB_CLEANUP(fd) int channel = r < 0 ? -1 : sb_msg_steal_fd(&opened, 0);
    SB_CLEANUP(msg) struct sb_msg reply = {0};
    r = r < 0 ? r : sb_msg_recv(channel, &reply, err);
    if (r > 0 && json_is_true(json_object_get(reply.json, "ok"))) {
        return 0;
    }
    if (r < 0) {
        return r;
    }
    const char *text = sb_json_str(reply.json, "error");
    const char *hint = sb_json_str(reply.json, "hint");
    sb_fail(err, SB_EFAIL, "cannot write '%s' inside: %s", path,
            text ? text : "the sandbox stopped");
    if (hint) {
        sb_hint(err, "%s", hint);
    }
    return SB_EFAIL;
}
