/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "sandbox/confine.h"
#include "sandbox/vm_root.h"
#include "vm/monitor.h"

enum { INIT_CHANNEL = 3 }; /* where sbx-init expects its socket */

struct clone_request {
    int cgroup_fd; /* -1: into ours */
    int pidfd;
};

static pid_t clone_namespaces(void *arg)
{
    struct clone_request *request = arg;
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET |
                 CLONE_NEWUTS | CLONE_NEWIPC,
        .pidfd = (uint64_t)(uintptr_t)&request->pidfd,
        .exit_signal = SIGCHLD,
    };
    if (request->cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)request->cgroup_fd;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* ---- in the child ---- */

/* Becomes the sandbox's root (agent where that is the only id).  A machine keeps its maker's
 * groups: one of them may open /dev/kvm. */
static int take_ids(enum idmap_mode mode, bool keep_groups, struct sb_err **err)
{
    if (mode == IDMAP_SINGLE) {
        return 0;
    }
    if (setresgid(0, 0, 0) < 0 || (!keep_groups && setgroups(0, NULL) < 0) ||
        setresuid(0, 0, 0) < 0) {
        return sb_fail_errno(err, errno, "become root of the sandbox");
    }
    return 0;
}

static int exec_init(const struct ns_spec *spec, int channel, struct sb_err **err)
{
    /* Descriptors 0..3 only; the program itself is reached through its own close-on-exec one. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
        dup2(channel, INIT_CHANNEL) < 0) {
        return sb_fail_errno(err, errno, "arrange the descriptors of sbx-init");
    }
    char *argv[] = {(char[]){"sbx-init"}, NULL};
    char *root_env[] = {NULL};
    char *single_env[] = {(char[]){"SBX_SINGLE_UID=1"}, NULL};
    syscall(SYS_close_range, INIT_CHANNEL + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    fexecve(spec->init_fd, argv, spec->rootfs->map.mode == IDMAP_SINGLE ? single_env : root_env);
    return sb_fail_errno(err, errno, "execute sbx-init");
}

/* The machine's parts at the numbers where sbx-vm looks for them. */
static int exec_monitor(const struct vm *vm, int channel, int word, struct sb_err **err)
{
    const struct {
        int from, to;
    } places[] = {{channel, MONITOR_CHANNEL},      {word, MONITOR_WORD},
                  {vm->config_fd, MONITOR_CONFIG}, {vm->kernel_fd, MONITOR_KERNEL},
                  {vm->initrd_fd, MONITOR_INITRD}, {vm->disk_fd, MONITOR_DISK}};
    int moved[SB_ARRAY_LEN(places)];
    SB_CLEANUP(fd) int program = fcntl(vm->monitor_fd, F_DUPFD_CLOEXEC, MONITOR_FDS_END);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ok =
        program >= 0 && null >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(null, 2) >= 0;
    /* First out of each other's way, then to their places. */
    for (size_t i = 0; ok && i < SB_ARRAY_LEN(places); i++) {
        moved[i] = fcntl(places[i].from, F_DUPFD_CLOEXEC, MONITOR_FDS_END);
        ok = moved[i] >= 0;
    }
    for (size_t i = 0; ok && i < SB_ARRAY_LEN(places); i++) {
        ok = dup2(moved[i], places[i].to) >= 0;
    }
    if (!ok) {
        return sb_fail_errno(err, errno, "arrange the descriptors of sbx-vm");
    }
    char *argv[] = {(char[]){"sbx-vm"}, NULL};
    char *env[] = {NULL};
    syscall(SYS_close_range, MONITOR_FDS_END, ~0U, CLOSE_RANGE_CLOEXEC);
    fexecve(program, argv, env);
    return sb_fail_errno(err, errno, "execute sbx-vm");
}

static int become_init(const struct ns_spec *spec, int channel, int word, struct sb_err **err)
{
    struct rootfs *rootfs = spec->rootfs;
    int listeners[NET_LISTENERS];
    /* The namespace after the join, so that its top is our group. */
    int r = cgroup_join(spec->cgroup, err);
    if (r == 0 && unshare(CLONE_NEWCGROUP) < 0) {
        r = sb_fail_errno(err, errno, "make a cgroup namespace");
    }
    r = r < 0 ? r : take_ids(rootfs->map.mode, spec->vm != NULL, err);
    /* Again: a change of ids clears it (prctl(2)). */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (r == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        r = sb_fail_errno(err, errno, "make the mount namespace private");
    }
    SB_CLEANUP(fd) int mounts = r < 0 ? -1 : open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (r == 0 && mounts < 0) {
        r = sb_fail_errno(err, errno, "open the mount namespace");
    }
    r = r < 0 ? r : net_setup(listeners, err);
    r = r < 0 ? r : confine_core_dumps(err);
    if (rootfs->map.mode == IDMAP_ROOT) {
        rootfs->provider = channel;
    } else if (r == 0) {
        confine_halve_limits();
        r = confine_halve_watches(err);
        r = r < 0 ? r : rootfs_clone_trees(rootfs, -1, err);
    }
    if (r == 0) {
        r = spec->vm ? vm_root_enter(rootfs, err) : rootfs_enter(rootfs, spec->name, err);
    }
    if (r == 0 && sethostname(spec->name, strlen(spec->name)) < 0) {
        r = sb_fail_errno(err, errno, "set the host name");
    }
    r = r < 0 ? r : confine_capabilities(err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(json) json_t *names = json_array();
    int fds[NET_LISTENERS + 1];
    size_t count = 0;
    for (size_t i = 0; i < NET_LISTENERS; i++) {
        if (listeners[i] >= 0) {
            json_array_append_new(names, json_integer((json_int_t)i));
            fds[count++] = listeners[i];
        }
    }
    fds[count++] = mounts;
    SB_CLEANUP(json) json_t *message = json_pack("{s:s,s:O}", "event", "listeners", "which", names);
    r = sb_msg_send(channel, message, fds, count, err);
    r = r < 0 ? r : confine_calls(spec->vm != NULL, err);
    if (r == 0 && spec->vm && rootfs->map.mode == IDMAP_SINGLE) {
        r = confine_single_machine(err);
    }
    if (r == 0 && spec->vm) {
        return exec_monitor(spec->vm, channel, word, err);
    }
    r = r < 0 ? r : cgroup_limit_process(spec->cgroup, err);
    return r < 0 ? r : exec_init(spec, channel, err);
}

static _Noreturn void child_main(const struct ns_spec *spec, int channel, int word, int gate)
{
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* The gate opens when our id maps are written; a parent that died closes it. */
    if (read(gate, &byte, 1) != 1) {
        _exit(125);
    }
    close(gate);
    struct sb_err *err = NULL;
    become_init(spec, channel, word, &err);
    SB_CLEANUP(json)
    json_t *message = json_pack("{s:s,s:s,s:s?,s:i}", "event", "failed", "error", err->message,
                                "hint", err->hint, "code", err->code);
    sb_msg_send(channel, message, NULL, 0, NULL);
    _exit(125);
}

/* ---- in the supervisor ---- */

int ns_take_failure(const json_t *message, struct sb_err **err)
{
    const char *text = sb_json_str(message, "error");
    const char *hint = sb_json_str(message, "hint");
    sb_fail(err, SB_ESTART, "%s", text ? text : "the sandbox's first process failed");
    if (hint) {
        sb_hint(err, "%s", hint);
    } else {
        idmap_explain_denial((int)sb_json_int(message, "code", 0), err);
    }
    return SB_ESTART;
}

int ns_await_network(struct ns_sandbox *sandbox, struct sb_err **err)
{
    SB_CLEANUP(msg) struct sb_msg msg = {0};
    int r = sb_msg_recv_last(sandbox->channel, &msg, NULL);
    if (r <= 0) {
        return sb_fail(err, SB_ESTART, "the sandbox's first process ended too early");
    }
    const char *event = sb_json_str(msg.json, "event");
    if (!event || strcmp(event, "listeners") != 0) {
        return ns_take_failure(msg.json, err);
    }
    const json_t *which = json_object_get(msg.json, "which");
    for (size_t i = 0; i < json_array_size(which); i++) {
        json_int_t index = json_integer_value(json_array_get(which, i));
        if (index >= 0 && index < NET_LISTENERS) {
            sandbox->listeners[index] = sb_msg_steal_fd(&msg, i);
        }
    }
    sandbox->mounts = sb_msg_steal_fd(&msg, json_array_size(which));
    return 0;
}

static int admit(const struct ns_spec *spec, pid_t pid, int gate, struct sb_err **err)
{
    int r = idmap_write(&spec->rootfs->map, pid, err);
    if (r < 0) {
        return r;
    }
    return write(gate, "", 1) == 1 ? 0 : sb_fail_errno(err, errno, "start the sandbox");
}

int ns_provide(const struct ns_spec *spec, const struct ns_sandbox *sandbox, struct sb_err **err)
{
    if (spec->rootfs->map.mode != IDMAP_ROOT) {
        return 0;
    }
    SB_CLEANUP(fd) int userns = idmap_userns_of(sandbox->pid, err);
    int r = userns < 0 ? userns : rootfs_provide_trees(spec->rootfs, userns, sandbox->channel, err);
    if (r == -EPIPE || r == -ECONNRESET) {
        /* It has ended, and said why. */
        sb_err_free(err ? sb_steal(err) : NULL);
        r = 0;
    }
    return r;
}

static void kill_and_reap(const struct ns_sandbox *sandbox)
{
    kill(sandbox->pid, SIGKILL);
    waitpid(sandbox->pid, NULL, 0);
}

static pid_t clone_first(const struct ns_spec *spec, struct clone_request *request)
{
    bool ordinary = spec->rootfs->map.mode != IDMAP_ROOT;
    rlim_t before = ordinary ? cgroup_share_processes(spec->cgroup) : RLIM_INFINITY;
    pid_t pid = idmap_clone(&spec->rootfs->map, clone_namespaces, request);
    if (pid != 0) {
        int saved = errno;
        cgroup_unshare_processes(before);
        errno = saved;
    }
    return pid;
}

int ns_start(const struct ns_spec *spec, struct ns_sandbox *ret, struct sb_err **err)
{
    struct ns_sandbox sandbox = {.pidfd = -1, .word = -1, .mounts = -1};
    for (size_t i = 0; i < NET_LISTENERS; i++) {
        sandbox.listeners[i] = -1;
    }
    int channel[2];
    int word[2] = {-1, -1};
    int gate[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0 ||
        (spec->vm && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, word) < 0) ||
        pipe2(gate, O_CLOEXEC) < 0) {
        return sb_fail_errno(err, errno, "make the sandbox's channel");
    }
    if (spec->rootfs->map.mode != IDMAP_ROOT) {
        confine_halve_limits();
    }
    struct clone_request request = {.cgroup_fd = cgroup_clone_fd(spec->cgroup), .pidfd = -1};
    sandbox.pid = clone_first(spec, &request);
    if (sandbox.pid < 0 && request.cgroup_fd >= 0) {
        cgroup_give_up_clone(spec->cgroup);
        request.cgroup_fd = -1;
        sandbox.pid = clone_first(spec, &request);
    }
    sandbox.pidfd = request.pidfd;
    if (sandbox.pid == 0) {
        close(channel[0]);
        close(gate[1]);
        child_main(spec, channel[1], word[1], gate[0]);
    }
    int clone_errno = errno;
    close(channel[1]);
    sb_cleanup_fd(&word[1]);
    close(gate[0]);
    int r =
        sandbox.pid < 0 ? idmap_refused(clone_errno, err) : admit(spec, sandbox.pid, gate[1], err);
    close(gate[1]);
    if (r < 0) {
        close(channel[0]);
        sb_cleanup_fd(&word[0]);
        if (sandbox.pid > 0) {
            kill_and_reap(&sandbox);
            close(sandbox.pidfd);
        }
        return r;
    }
    sandbox.channel = channel[0];
    sandbox.word = word[0];
    *ret = sandbox;
    return 0;
}
