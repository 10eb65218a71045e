/* SPDX-License-Identifier: Apache-2.0
 * The loop of process 1: orders from the supervisor, dead children, the end.
 *
 * Fails closed: when the supervisor's socket ends, everything in the sandbox is killed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init/init.h"

enum {
    REAP_BATCH = 256, /* a storm of dying children must not starve the supervisor's socket */
    GRACE_MS_DEFAULT = 10000,
    GRACE_MS_MAX = 600000,
};

static _Noreturn void end_sandbox(int status)
{
    /* The kernel kills the rest of a process namespace when its first process exits. */
    kill(-1, SIGKILL);
    _exit(status);
}

static void on_grace_over(void *arg)
{
    (void)arg;
    end_sandbox(0);
}

static void reap(void *arg)
{
    struct init *init = arg;
    for (int i = 0; i < REAP_BATCH; i++) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG) < 0) {
            if (errno == ECHILD && init->stopping) {
                end_sandbox(0);
            }
            return;
        }
        if (info.si_pid == 0) {
            return;
        }
        session_child_event(init, &info);
    }
    sb_loop_timer(init->loop, &init->reap_timer, 0, reap, init);
}

static void begin_stop(struct init *init, json_int_t grace_ms)
{
    if (grace_ms < 0 || grace_ms > GRACE_MS_MAX) {
        grace_ms = GRACE_MS_DEFAULT;
    }
    init->stopping = true;
    kill(-1, SIGTERM);
    session_hang_up_terminals(init);
    /* A stopped process sees its SIGTERM only when it continues. */
    kill(-1, SIGCONT);
    sb_loop_timer(init->loop, &init->grace_timer, (uint64_t)grace_ms, on_grace_over, init);
    /* With nothing to wait for, the reaper ends the sandbox at once. */
    sb_loop_timer(init->loop, &init->reap_timer, 0, reap, init);
}

static void on_signal(void *arg, uint32_t events)
{
    (void)events;
    struct init *init = arg;
    struct signalfd_siginfo info;
    while (read(init->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        /* SI_USER cannot be forged, and only a sender outside this namespace has no pid in it. */
        bool outside = info.ssi_code == SI_USER && info.ssi_pid == 0;
        if (info.ssi_signo == SIGTERM && outside && !init->stopping) {
            begin_stop(init, GRACE_MS_DEFAULT);
        }
    }
    reap(init);
}

static void on_order(void *arg, uint32_t events)
{
    (void)events;
    struct init *init = arg;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv_large(INIT_SUPERVISOR_FD, &msg, &err);
    if (r == -EAGAIN) {
        return;
    }
    if (r == SB_EPROTO) {
        fprintf(stderr, "sbx-init: order ignored: %s\n", err->message);
        return;
    }
    if (r <= 0) {
        end_sandbox(1);
    }
    const char *op = sb_json_str(msg.json, "op");
    if (op && strcmp(op, "exec") == 0) {
        session_start(init, &msg);
    } else if (op && strcmp(op, "write") == 0) {
        write_start(init, &msg);
    } else if (op && strcmp(op, "dial") == 0) {
        dial_start(&msg);
    } else if (op && strcmp(op, "stop") == 0) {
        begin_stop(init, sb_json_int(msg.json, "grace_ms", GRACE_MS_DEFAULT));
    } else {
        fprintf(stderr, "sbx-init: unknown order '%.32s' ignored\n", op ? op : "");
    }
}

void init_reset_child(const struct init *init)
{
    /* Not by signal(), which refuses those that libc keeps for itself; whoever spawned the
     * supervisor may have left them ignored.  All zero is the kernel's own SIG_DFL. */
    static const unsigned long by_default[4];
    for (int signo = 1; signo < NSIG; signo++) {
        syscall(SYS_rt_sigaction, signo, by_default, NULL, NSIG / CHAR_BIT);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setrlimit(RLIMIT_NOFILE, &init->nofile);
    if (init->spared) {
        SB_CLEANUP(fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : write(fd, "0", 1);
        (void)n; /* root has taken /proc away: its own memory is what that may cost */
    }
    umask(022);
}

/* Descriptors 0 to 2 must exist, or one received later could land there. */
static int ensure_standard_fds(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0) {
        return fcntl(STDERR_FILENO, F_GETFD) < 0 ? -errno : 0;
    }
    close(fd);
    return 0;
}

static int prepare(struct init *init, struct sb_err **err)
{
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    init->single_uid = secure_getenv("SBX_SINGLE_UID") != NULL;
    init->spared = secure_getenv("SBX_SPARED") != NULL;
    if (fcntl(INIT_SUPERVISOR_FD, F_SETFD, FD_CLOEXEC) < 0 || ensure_standard_fds() < 0) {
        return sb_fail_errno(err, errno, "descriptors 0 to %d", INIT_SUPERVISOR_FD);
    }
    if (getrlimit(RLIMIT_NOFILE, &init->nofile) == 0) {
        struct rlimit raised = {.rlim_cur = init->nofile.rlim_max, init->nofile.rlim_max};
        setrlimit(RLIMIT_NOFILE, &raised);
    }
    sigset_t mask;
    sigfillset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    init->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (init->signal_fd < 0) {
        return sb_fail_errno(err, errno, "signalfd");
    }
    int r = sb_loop_new(&init->loop, err);
    if (r < 0) {
        return r;
    }
    if (!sb_loop_watch(init->loop, init->signal_fd, EPOLLIN, on_signal, init) ||
        !sb_loop_watch(init->loop, INIT_SUPERVISOR_FD, EPOLLIN, on_order, init)) {
        return sb_fail(err, SB_EFAIL, "descriptor %d is not a socket", INIT_SUPERVISOR_FD);
    }
    return 0;
}

static int serve(struct init *init, struct sb_err **err)
{
    int r = prepare(init, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(json) json_t *ready = json_pack("{s:s}", "event", "ready");
    r = sb_msg_send(INIT_SUPERVISOR_FD, ready, NULL, 0, err);
    if (r < 0) {
        return r;
    }
    int flags = fcntl(INIT_SUPERVISOR_FD, F_GETFL);
    if (flags < 0 || fcntl(INIT_SUPERVISOR_FD, F_SETFL, flags | O_NONBLOCK) < 0) {
        return sb_fail_errno(err, errno, "descriptor %d", INIT_SUPERVISOR_FD);
    }
    return sb_loop_run(init->loop, err);
}

int init_serve(void)
{
    /* Not only useless elsewhere: outside its namespace, kill(-1) would reach the whole machine. */
    if (getpid() != 1) {
        fputs("sbx-init: runs only as process 1 of a sandbox, where sbx-supervisor starts it\n",
              stderr);
        return 1;
    }
    static struct init init;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (serve(&init, &err) < 0) {
        fprintf(stderr, "sbx-init: %s\n", err->message);
    }
    end_sandbox(1);
}
