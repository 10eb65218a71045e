/* SPDX-License-Identifier: Apache-2.0
 * sbx-vm: process 1 of the namespaces that a virtual machine runs in.
 *
 * It stands where sbx-init stands in a namespace sandbox: the supervisor sends it the same messages
 * and needs not know that they are relayed into a guest.  It starts virtiofsd and QEMU, gives both
 * only what they need, and ends with either; everything in its namespaces ends with it.
 *
 * The guest is hostile: its bytes reach only the link (bounded, see link.h) and the console. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/loop.h"
#include "base/msg.h"
#include "base/text.h"
#include "filter/load.h"
#include "filter/monitor.inc"
#include "link/link.h"
#include "vm/console.h"
#include "vm/machine.h"
#include "vm/monitor.h"
#include "vm/qmp.h"
#include "vm/share.h"

enum { GUEST_TEXT_MAX = 200, RESETS_MAX = 5 };

struct monitor {
    json_t *config;
    struct sb_loop *loop;
    struct link *link;
    struct qmp *qmp;
    struct console console;
    int console_fd, signals, clock;
    sb_watch console_watch;
    pid_t share, machine;
    bool booted;
    struct sb_timer boot; /* runs until it has booted */
    unsigned resets;      /* before that */
    struct sb_timer beat;
    unsigned missed; /* beats since a question that has no answer yet; 0: none is open */
    bool full;       /* there was no space for its disk, and it has not gone on for a while since */
    bool stopped;
    struct sb_timer retry;
    struct sb_timer ending;
    char *sign; /* of an end that is near */
    char *why;  /* of the end */
};

static void tell(const char *event, const char *error)
{
    SB_CLEANUP(json) json_t *message = json_pack("{s:s,s:s*}", "event", event, "error", error);
    sb_msg_send(MONITOR_WORD, message, NULL, 0, NULL);
}

/* ---- the end ---- */

/* The first reason is the one to tell. */
static void end(struct monitor *m, char *why)
{
    if (!m->why) {
        m->why = why;
    } else {
        free(why);
    }
    sb_loop_stop(m->loop);
}

/* Something has closed, which tells less than how QEMU ends; and a guest that ends in order still
 * has a disk to close.  So the end is waited for. */
enum { ENDING_MS = 5000 };

static void on_ending(void *arg)
{
    struct monitor *m = arg;
    end(m, sb_steal(&m->sign));
}

static void end_soon(struct monitor *m, char *sign)
{
    if (m->sign) {
        free(sign);
        return;
    }
    m->sign = sign;
    sb_loop_timer(m->loop, &m->ending, ENDING_MS, on_ending, m);
}

/* Only the last is of interest, and a guest may write faster than anybody reads. */
static void drain_console(struct monitor *m)
{
    enum { READS = 256 };
    char data[4096];
    for (int i = 0; i < READS; i++) {
        ssize_t n = read(m->console_fd, data, sizeof(data));
        if (n <= 0) {
            return;
        }
        console_add(&m->console, data, (size_t)n);
    }
}

static void tell_end(struct monitor *m)
{
    drain_console(m);
    SB_CLEANUP(free) char *panic = console_panic(&m->console);
    SB_CLEANUP(free) char *last = panic ? NULL : console_last_line(&m->console);
    SB_CLEANUP(free)
    char *text = panic  ? sb_xasprintf("the guest's kernel stopped: %s", panic)
                 : last ? sb_xasprintf("%s (last words: %s)", m->why, last)
                        : sb_xstrdup(m->why ? m->why : "the machine ended");
    tell("ended", text);
}

static void on_signal(void *arg, uint32_t events)
{
    (void)events;
    struct monitor *m = arg;
    char info[128];
    while (read(m->signals, info, sizeof(info)) > 0) {
    }
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        const char *who = pid == m->machine ? "QEMU" : pid == m->share ? "virtiofsd" : NULL;
        if (who && WIFSIGNALED(status)) {
            end(m, sb_xasprintf("%s was killed by signal %d", who, WTERMSIG(status)));
        } else if (who && status == 0 && m->sign) {
            end(m, sb_steal(&m->sign));
        } else if (who) {
            end(m, sb_xasprintf("%s ended with status %d", who, WEXITSTATUS(status)));
        }
    }
}

/* ---- the guest ---- */

static void put_time(json_t *message)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_object_set_new(message, "sec", json_integer(now.tv_sec));
    json_object_set_new(message, "nsec", json_integer(now.tv_nsec));
}

static void send_time(struct monitor *m)
{
    SB_CLEANUP(json) json_t *message = json_pack("{s:s}", "op", "clock");
    put_time(message);
    link_control(m->link, message, NULL);
}

static void on_console(void *arg, uint32_t events)
{
    (void)events;
    struct monitor *m = arg;
    char data[4096];
    ssize_t n = read(m->console_fd, data, sizeof(data));
    if (n > 0) {
        console_add(&m->console, data, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        sb_loop_unwatch(m->loop, m->console_watch);
        end_soon(m, sb_xstrdup("QEMU closed the guest's console"));
    }
}

static void on_link_closed(void *arg, const struct sb_err *why)
{
    struct monitor *m = arg;
    char *text = sb_xasprintf("the link to the guest ended: %s", why ? why->message : "closed");
    if (why && why->code == SB_EPROTO) {
        end(m, text);
    } else {
        end_soon(m, text);
    }
}

/* ---- does it live? ----
 *
 * While commands run, the guest is asked once a second.  An idle one is left alone: nobody waits
 * for it, and whoever comes makes it busy.  A slow guest is told of, and never ended: it may be
 * stopped, in a debugger, or on a host that has no time for it. */

enum { BEAT_MS = 1000, BEATS_MISSED = 5 };

/* Beats are counted instead of seconds: after each the loop has looked for an answer, also when we
 * were the ones who did not run. */
static void on_beat(void *arg)
{
    struct monitor *m = arg;
    if (m->missed == 0 && link_is_busy(m->link)) {
        SB_CLEANUP(json) json_t *question = json_pack("{s:s}", "op", "ping");
        link_control(m->link, question, NULL);
        m->missed = 1;
    } else if (m->missed > 0 && ++m->missed > BEATS_MISSED) {
        tell("silent", NULL);
    }
    if (m->missed > 0 && m->missed <= BEATS_MISSED) {
        sb_loop_timer(m->loop, &m->beat, BEAT_MS, on_beat, m);
    }
}

static void on_answer(struct monitor *m)
{
    if (m->missed > BEATS_MISSED) {
        tell("answers", NULL);
    }
    m->missed = 0;
    if (link_is_busy(m->link)) {
        sb_loop_timer(m->loop, &m->beat, BEAT_MS, on_beat, m);
    } else {
        sb_loop_timer_stop(m->loop, &m->beat);
    }
}

static void on_link_busy(void *arg)
{
    struct monitor *m = arg;
    if (m->missed == 0) {
        sb_loop_timer(m->loop, &m->beat, BEAT_MS, on_beat, m);
    }
}

/* ---- the host's disk is full ----
 *
 * QEMU stops the machine before it loses what the guest has written, and nobody but us lets it go
 * on: we try until there is space. */

enum { RETRY_MS = 1000 };

static void on_retry(void *arg)
{
    struct monitor *m = arg;
    if (m->stopped) {
        m->stopped = false;
        qmp_go_on(m->qmp);
        sb_loop_timer(m->loop, &m->retry, RETRY_MS, on_retry, m);
    } else {
        m->full = false; /* it went on, and did not stop again */
    }
}

static void on_disk_error(struct monitor *m)
{
    m->stopped = true;
    if (!m->booted) {
        end(m, sb_xasprintf("its disk cannot be written: %s", strerror(ENOSPC)));
    } else if (!m->full) {
        m->full = true;
        tell("full", NULL);
        sb_loop_timer(m->loop, &m->retry, RETRY_MS, on_retry, m);
    }
}

static int on_link_control(void *arg, const json_t *message, struct sb_err **err)
{
    (void)err;
    struct monitor *m = arg;
    const char *event = sb_json_str(message, "event");
    if (event && strcmp(event, "booted") == 0) {
        m->booted = true;
        sb_loop_timer_stop(m->loop, &m->boot);
        qmp_end_with_reset(m->qmp);
        send_time(m); /* what it was sent at first is as old as its boot took */
    } else if (event && strcmp(event, "pong") == 0) {
        on_answer(m);
    } else if (event && strcmp(event, "failed") == 0 && !m->booted) {
        const char *text = sb_json_str(message, "error");
        SB_CLEANUP(free) char *start = sb_xstrndup(text ? text : "?", GUEST_TEXT_MAX);
        /* The cut may be within a character. */
        SB_CLEANUP(free) char *shown = sb_printable(start, "");
        end(m, sb_xasprintf("the guest could not start: %s", shown));
    }
    return 0;
}

static void on_boot_late(void *arg)
{
    end(arg, sb_xasprintf("the guest did not boot within %d seconds", MONITOR_BOOT_S));
}

static int send_boot(struct monitor *m, struct sb_err **err)
{
    json_t *boot = json_object_get(m->config, "boot");
    json_object_set_new(boot, "op", json_string("boot"));
    put_time(boot);
    sb_loop_timer(m->loop, &m->boot, (uint64_t)MONITOR_BOOT_S * 1000, on_boot_late, m);
    return link_control(m->link, boot, err);
}

/* ---- the clock ---- */

static int arm_clock(struct monitor *m)
{
    /* Never due: it only tells that the host's clock was set, or that the host has slept. */
    struct itimerspec never = {.it_value.tv_sec = INT32_MAX};
    return timerfd_settime(m->clock, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_clock(void *arg, uint32_t events)
{
    (void)events;
    struct monitor *m = arg;
    uint64_t count;
    if (read(m->clock, &count, sizeof(count)) < 0 && errno == ECANCELED) {
        send_time(m);
    }
    arm_clock(m);
}

/* ---- what is started ---- */

/* Descriptors listed in `kept` lose close-on-exec; all others have it. */
static void keep(const int *kept, size_t count)
{
    syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    for (size_t i = 0; i < count; i++) {
        fcntl(kept[i], F_SETFD, 0);
    }
}

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Takes an id that owns nothing; groups stay, since one of them may open /dev/kvm.  Where there is
 * no such id, at least nothing remains of root's powers. */
static int drop_privileges(unsigned id)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {0};
    if (geteuid() == 0 && (setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0)) {
        return -errno;
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
        syscall(SYS_capset, &header, none) < 0) {
        return -errno;
    }
    /* Again: a change of ids clears it (prctl(2)). */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* Nobody's but the sandbox's own: the groups of who made it must not open files for the guest.
 * Where ids are few the kernel forbids the call, and virtiofsd has the caller's groups. */
static int drop_groups(void)
{
    return geteuid() == 0 && setgroups(0, NULL) < 0 ? -errno : 0;
}

/* From here on it has no way to anything but its descriptors. */
static int lock_in(struct sb_err **err)
{
    int r = drop_privileges(MONITOR_OWN_ID);
    r = r < 0 ? r : filter_load(filter_monitor, SB_ARRAY_LEN(filter_monitor));
    return r < 0 ? sb_fail_errno(err, -r, "lock the monitor in") : 0;
}

static int make_pair(int *ret_near, int *ret_far, struct sb_err **err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return sb_fail_errno(err, errno, "socketpair");
    }
    /* QEMU's end stays blocking, as it wants it. */
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    *ret_near = pair[0];
    *ret_far = pair[1];
    return 0;
}

/* How many descriptors virtiofsd may have, which are as many as we: what the guest may remember. */
static void tell_descriptors(const struct monitor *m)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        json_object_set_new(json_object_get(m->config, "boot"), "descriptors",
                            json_integer((json_int_t)files.rlim_cur));
    }
}

static int start_share(struct monitor *m, int console, int *ret_socket, struct sb_err **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/share.sock"};
    SB_CLEANUP(fd) int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SB_CLEANUP(fd) int near = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || near < 0 ||
        bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0 ||
        connect(near, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        return sb_fail_errno(err, errno, "make the socket of virtiofsd");
    }
    unlink(address.sun_path);
    const char *program = sb_json_str(m->config, "virtiofsd");
    char **argv = share_argv(program, listener, MONITOR_SHARE);
    m->share = fork();
    if (m->share == 0) {
        reset_signals();
        if (drop_groups() < 0) {
            _exit(126);
        }
        dup2(console, STDERR_FILENO);
        keep(&listener, 1);
        execv(program, argv);
        _exit(127);
    }
    share_free_argv(argv);
    if (m->share < 0) {
        return sb_fail_errno(err, errno, "start virtiofsd");
    }
    tell_descriptors(m);
    *ret_socket = sb_steal_fd(&near);
    return 0;
}

static _Noreturn void exec_machine(const struct machine *machine)
{
    const int kept[] = {machine->kernel_fd, machine->initrd_fd, machine->disk_fd,
                        machine->link_fd,   machine->share_fd,  machine->qmp_fd,
                        machine->console_fd};
    reset_signals();
    char **argv = machine_argv(machine);
    if (chroot(MONITOR_MACHINE) < 0 || chdir("/") < 0 || drop_privileges(MONITOR_MACHINE_ID) < 0) {
        _exit(126);
    }
    /* What it complains of stands with the guest's last words. */
    dup2(machine->console_fd, STDERR_FILENO);
    keep(kept, SB_ARRAY_LEN(kept));
    execv(machine->program, argv);
    _exit(127);
}

static int start_machine(struct monitor *m, int share, int console, int *ret_link, int *ret_qmp,
                         struct sb_err **err)
{
    struct machine machine = {
        .program = sb_json_str(m->config, "qemu"),
        .accelerator = sb_json_str(m->config, "accelerator"),
        .cpus = (unsigned)sb_json_int(m->config, "cpus", 1),
        .memory_mb = (unsigned)sb_json_int(m->config, "memory_mb", 1024),
        .tsc_khz = (unsigned)sb_json_int(m->config, "tsc_khz", 0),
        .acpi = json_is_true(json_object_get(m->config, "acpi")),
        .kernel_fd = MONITOR_KERNEL,
        .initrd_fd = MONITOR_INITRD,
        .disk_fd = MONITOR_DISK,
        .share_fd = share,
        .console_fd = console,
    };
    SB_CLEANUP(fd) int link_far = -1;
    SB_CLEANUP(fd) int qmp_far = -1;
    int r = make_pair(ret_link, &link_far, err);
    r = r < 0 ? r : make_pair(ret_qmp, &qmp_far, err);
    if (r < 0) {
        return r;
    }
    machine.link_fd = link_far;
    machine.qmp_fd = qmp_far;
    m->machine = fork();
    if (m->machine == 0) {
        exec_machine(&machine);
    }
    close(MONITOR_KERNEL);
    close(MONITOR_INITRD);
    close(MONITOR_DISK);
    return m->machine < 0 ? sb_fail_errno(err, errno, "start QEMU") : 0;
}

/* ---- main ---- */

static int watch_signals(struct monitor *m, struct sb_err **err)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    m->signals = (int)syscall(SYS_signalfd4, -1, &mask, 8, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return m->signals < 0 ? sb_fail_errno(err, errno, "signalfd") : 0;
}

/* A guest whose timer is of no use begins anew, before it has said anything (guest/timer.c); what
 * waits for it on the link was not read yet.  Every other reset is an end. */
static void on_reset(struct monitor *m)
{
    drain_console(m);
    if (m->booted || m->console.len > 0 || ++m->resets > RESETS_MAX) {
        end(m, sb_xstrdup("the guest ended itself"));
    }
}

static void on_qmp_event(void *arg, const char *event, const json_t *data)
{
    struct monitor *m = arg;
    if (strcmp(event, "GUEST_PANICKED") == 0) {
        end(m, sb_xstrdup("the guest's kernel panicked"));
    } else if (strcmp(event, "BLOCK_IO_ERROR") == 0) {
        const char *action = sb_json_str(data, "action");
        if (action && strcmp(action, "stop") == 0) {
            on_disk_error(m);
        }
    } else if (strcmp(event, "RESET") == 0) {
        on_reset(m);
    } else if (strcmp(event, "SHUTDOWN") == 0) {
        const char *reason = sb_json_str(data, "reason");
        bool by_guest = reason && strncmp(reason, "guest-", strlen("guest-")) == 0;
        end(m, by_guest ? sb_xstrdup("the guest ended itself")
                        : sb_xasprintf("the machine was ended (%s)", reason ? reason : "unknown"));
    }
}

static int watch_all(struct monitor *m, int qmp, struct sb_err **err)
{
    m->clock = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    arm_clock(m);
    if (!sb_loop_watch(m->loop, m->signals, EPOLLIN, on_signal, m) ||
        !(m->console_watch = sb_loop_watch(m->loop, m->console_fd, EPOLLIN, on_console, m)) ||
        !sb_loop_watch(m->loop, m->clock, EPOLLIN, on_clock, m)) {
        return sb_fail_errno(err, errno, "watch the machine");
    }
    return qmp_new(m->loop, qmp, on_qmp_event, m, &m->qmp, err);
}

static int run(struct monitor *m, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 1 << 20);
    if (sb_read_fd(MONITOR_CONFIG, &text) < 0 ||
        !(m->config = json_loadb(text.data, text.len, 0, NULL))) {
        return sb_fail(err, SB_ESTART, "sbx-vm has no description of its machine");
    }
    SB_CLEANUP(fd) int share = -1;
    int console = -1;
    int wire = -1;
    int qmp = -1;
    int r = watch_signals(m, err);
    r = r < 0 ? r : make_pair(&m->console_fd, &console, err);
    r = r < 0 ? r : start_share(m, console, &share, err);
    r = r < 0 ? r : start_machine(m, share, console, &wire, &qmp, err);
    sb_cleanup_fd(&console);
    r = r < 0 ? r : sb_loop_new(&m->loop, err);
    r = r < 0 ? r : watch_all(m, qmp, err);
    r = r < 0 ? r : lock_in(err);
    if (r < 0) {
        return r;
    }
    const struct link_events events = {
        .closed = on_link_closed, .control = on_link_control, .busy = on_link_busy, .arg = m};
    r = link_new(m->loop, LINK_HOST, wire, MONITOR_CHANNEL, &events, &m->link, err);
    r = r < 0 ? r : send_boot(m, err);
    return r < 0 ? r : sb_loop_run(m->loop, err);
}

int main(void)
{
    if (getpid() != 1) {
        fputs("sbx-vm: started by sbx-supervisor as the first process of a machine\n", stderr);
        return 1;
    }
    prctl(PR_SET_DUMPABLE, 0);
    link_raise_limits();
    static struct monitor monitor = {.console_fd = -1};
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (run(&monitor, &err) < 0) {
        monitor.why = sb_xstrdup(err->message);
    }
    tell_end(&monitor);
    return 0;
}
