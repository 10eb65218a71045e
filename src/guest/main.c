/* SPDX-License-Identifier: Apache-2.0
 * sbx-guest: /init of the virtual machine's initramfs (guest.h).
 *
 * The host's first message says what to be ("boot"); the answer is "booted", or why not.  The end
 * of sbx-init, of the link, or of the boot is the end of the machine. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/loop.h"
#include "base/msg.h"
#include "guest/guest.h"
#include "init/volumes.h"
#include "link/link.h"
#include "vm/initramfs.h"

enum { INIT_CHANNEL = 3 }; /* where sbx-init expects its socket */

struct guest {
    struct sb_loop *loop;
    struct link *link;
    int init_end; /* sbx-init's end of the link's orders, until it is started */
    pid_t pid;    /* sbx-init, 0 before it is started */
    pid_t beside; /* a process that does a part of the boot, 0 when it has ended */
    int beside_status;
    int signals;
};

static _Noreturn void power_off(void)
{
    mounts_end();
    /* The host takes the reset for the end. */
    reboot(RB_AUTOBOOT);
    for (;;) {
        pause();
    }
}

void log_line(int level, const char *text)
{
    SB_CLEANUP(fd) int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    SB_CLEANUP(free) char *line = sb_xasprintf("<%d>sbx-guest: %s\n", level, text);
    ssize_t n = fd < 0 ? -1 : write(fd, line, strlen(line));
    (void)n; /* there is nobody else to tell */
}

static void say(const struct sb_err *err)
{
    SB_CLEANUP(free)
    char *text = err->hint ? sb_xasprintf("%s; %s", err->message, err->hint) : NULL;
    log_line(3, text ? text : err->message);
}

/* When each part of the boot was done is in the kernel's log (dmesg), for bench/vm and whoever
 * looks for what a start waits for. */
static void mark(const char *what)
{
    log_line(6, what);
}

/* ---- sbx-init ---- */

/* Without it there is no sandbox: when memory ends (a file system of it is full, say, which no
 * program is charged for), the kernel takes others.  sbx-init's children are as all are. */
static void spare_init(void)
{
    SB_CLEANUP(fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "-1000", 5) < 0) {
        log_line(3, "sbx-init is not spared when memory ends");
    }
}

/* In memory they have at most what a sandbox of the host's kernel may have, a quarter. */
static int mount_volumes(const json_t *volumes, struct sb_err **err)
{
    struct sysinfo info;
    uint64_t memory = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : 0;
    return volumes_mount(volumes, memory / 4, err);
}

static _Noreturn void become_init(int channel, int init_fd, const json_t *volumes)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    spare_init();
    if (mounts_enter(&err) < 0 || mount_volumes(volumes, &err) < 0) {
        say(err);
        _exit(125);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* As a system's first process leaves them to its users: the kernel's own are meagre. */
    const struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};
    setrlimit(RLIMIT_NOFILE, &files);
    dup2(channel, INIT_CHANNEL);
    syscall(SYS_close_range, INIT_CHANNEL + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    char *argv[] = {(char[]){"sbx-init"}, NULL};
    char *env[] = {(char[]){"SBX_SPARED=1"}, NULL};
    fexecve(init_fd, argv, env);
    sb_fail_errno(&err, errno, "execute sbx-init");
    say(err);
    _exit(125);
}

static int start_init(struct guest *guest, const json_t *volumes, struct sb_err **err)
{
    SB_CLEANUP(fd) int init_fd = open("/sbx-init", O_RDONLY | O_CLOEXEC);
    if (init_fd < 0) {
        return sb_fail_errno(err, errno, "open sbx-init in the initramfs");
    }
    pid_t pid =
        (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, 0);
    if (pid < 0) {
        return sb_fail_errno(err, errno, "start sbx-init");
    }
    if (pid == 0) {
        become_init(guest->init_end, init_fd, volumes);
    }
    guest->pid = pid;
    close(sb_steal_fd(&guest->init_end));
    return 0;
}

/* ---- what the host says ---- */

static void set_clock(const json_t *message)
{
    struct timespec now = {.tv_sec = sb_json_int(message, "sec", 0),
                           .tv_nsec = (long)sb_json_int(message, "nsec", 0)};
    if (now.tv_sec > 0) {
        clock_settime(CLOCK_REALTIME, &now);
    }
}

/* This kernel is the sandbox's alone: the most tasks that there may be are those of the kernel
 * itself and the sandbox's. */
static int limit_tasks(const json_t *message, struct sb_err **err)
{
    json_int_t wish = sb_json_int(message, "pids", 0);
    SB_CLEANUP(buf) struct sb_buf load;
    sb_buf_init(&load, 256);
    if (wish <= 0) {
        return 0;
    }
    int r = sb_read_file(AT_FDCWD, "/proc/loadavg", &load, err);
    const char *slash = r < 0 ? NULL : strchr(load.data, '/');
    long tasks = slash ? strtol(slash + 1, NULL, 10) : 0;
    SB_CLEANUP(free) char *text = sb_xasprintf("%lld", (long long)wish + tasks);
    SB_CLEANUP(fd) int fd = open("/proc/sys/kernel/threads-max", O_WRONLY | O_CLOEXEC);
    return r < 0 ? r
           : fd < 0 || write(fd, text, strlen(text)) < 0
               ? sb_fail_errno(err, errno, "limit the guest's processes")
               : 0;
}

/* Its status; what failed is in the kernel's log. */
static int await_beside(struct guest *guest)
{
    while (guest->beside && waitpid(guest->beside, &guest->beside_status, 0) < 0 &&
           errno == EINTR) {
    }
    guest->beside = 0;
    return guest->beside_status;
}

static int finish_modules(struct guest *guest, struct sb_err **err)
{
    if (await_beside(guest) != 0) {
        return sb_fail(err, SB_ESTART, "a kernel module could not be loaded");
    }
    guest->beside = cpus_start_beside(err);
    return guest->beside < 0 ? guest->beside : 0;
}

/* What no command waits for; and nobody is in a hurry any more (rcupdate.rcu_expedited). */
static void load_later(void)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(fd) int hurry = open("/sys/kernel/rcu_expedited", O_WRONLY | O_CLOEXEC);
    ssize_t n = hurry < 0 ? -1 : write(hurry, "0", 1);
    (void)n; /* a kernel that knows no hurry has no such file */
    if (modules_load_beside("/" INITRAMFS_LATER, &err) < 0) {
        say(err);
    }
}

static int boot(struct guest *guest, const json_t *message, struct sb_err **err)
{
    set_clock(message);
    mark("told what to be");
    int r = finish_modules(guest, err);
    mark("all modules");
    r = r < 0 ? r : network_up(message, err);
    mark("network");
    r = r < 0 ? r : mounts_build(message, err);
    mark("file systems");
    await_beside(guest);
    mark("processors");
    r = r < 0 ? r : forget_start(message, err);
    r = r < 0 ? r : limit_tasks(message, err);
    if (r == 0) {
        modules_serve();
    }
    return r < 0 ? r : start_init(guest, json_object_get(message, "volumes"), err);
}

static void answer_boot(struct guest *guest, const json_t *message)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int r = guest->pid ? 0 : boot(guest, message, &err);
    SB_CLEANUP(json)
    json_t *answer = r < 0 ? json_pack("{s:s,s:s}", "event", "failed", "error", err->message)
                           : json_pack("{s:s}", "event", "booted");
    link_control(guest->link, answer, NULL);
    if (r == 0) {
        load_later();
    }
}

static int on_control(void *arg, const json_t *message, struct sb_err **err)
{
    (void)err;
    struct guest *guest = arg;
    const char *op = sb_json_str(message, "op");
    if (op && strcmp(op, "boot") == 0) {
        answer_boot(guest, message);
    } else if (op && strcmp(op, "clock") == 0) {
        set_clock(message);
    } else if (op && strcmp(op, "ping") == 0) {
        SB_CLEANUP(json) json_t *answer = json_pack("{s:s}", "event", "pong");
        link_control(guest->link, answer, NULL);
    }
    return 0;
}

/* After a `stop` it ends with 0, and there is nothing to say. */
static void say_end(int status)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (WIFSIGNALED(status)) {
        sb_fail(&err, SB_EFAIL, "sbx-init was killed by signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status)) {
        sb_fail(&err, SB_EFAIL, "sbx-init ended with status %d", WEXITSTATUS(status));
    }
    if (err) {
        say(err);
    }
}

static void on_closed(void *arg, const struct sb_err *why)
{
    const struct guest *guest = arg;
    int status;
    /* With sbx-init its socket ends, and its end may be heard of later. */
    if (guest->pid && waitpid(guest->pid, &status, WNOHANG) > 0) {
        say_end(status);
    } else {
        say(why);
    }
    power_off();
}

/* ---- processes ---- */

/* Orphans of sbx-init's namespace stay there: only sbx-init itself is our child. */
static void on_signal(void *arg, uint32_t events)
{
    (void)events;
    struct guest *guest = arg;
    char info[128];
    while (read(guest->signals, info, sizeof(info)) > 0) {
    }
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == guest->pid) {
            say_end(status);
            power_off();
        }
        if (pid == guest->beside) {
            guest->beside = 0;
            guest->beside_status = status;
        }
    }
}

static int watch_signals(struct guest *guest, struct sb_err **err)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    guest->signals = (int)syscall(SYS_signalfd4, -1, &mask, 8, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (guest->signals < 0 ||
        !sb_loop_watch(guest->loop, guest->signals, EPOLLIN, on_signal, guest)) {
        return sb_fail_errno(err, errno, "watch signals");
    }
    return 0;
}

static int serve(struct guest *guest, struct sb_err **err)
{
    int orders[2];
    int wire = -1;
    int r = mounts_early(err);
    if (r == 0 && !timer_is_right()) {
        /* The host takes an end without a word, this early, for the wish to begin anew. */
        reboot(RB_AUTOBOOT);
    }
    r = r < 0 ? r : modules_load("/" INITRAMFS_CORE, err);
    if (r == 0) {
        guest->beside = modules_load_beside("/" INITRAMFS_REST, err);
        r = guest->beside < 0 ? guest->beside : modules_load("/" INITRAMFS_LINK, err);
    }
    mark("modules of the link");
    if (r == 0) {
        wire = port_open(err);
        r = wire < 0 ? wire : 0;
    }
    mark("port");
    if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, orders) < 0) {
        r = sb_fail_errno(err, errno, "make the channel of sbx-init");
    }
    r = r < 0 ? r : sb_loop_new(&guest->loop, err);
    r = r < 0 ? r : watch_signals(guest, err);
    if (r < 0) {
        return r;
    }
    guest->init_end = orders[1];
    const struct link_events events = {.closed = on_closed, .control = on_control, .arg = guest};
    r = link_new(guest->loop, LINK_GUEST, wire, orders[0], &events, &guest->link, err);
    return r < 0 ? r : sb_loop_run(guest->loop, err);
}

int main(int argc, char **argv)
{
    if (getpid() != 1 && argc > 1 && strcmp(argv[0], GUEST_PROGRAM) == 0) {
        return modules_help(argv);
    }
    if (getpid() != 1) {
        fputs("sbx-guest: runs only as process 1 of a virtual machine of sbx\n", stderr);
        return 1;
    }
    link_raise_limits();
    static struct guest guest;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (serve(&guest, &err) < 0) {
        say(err);
    }
    power_off();
}
