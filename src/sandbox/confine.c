/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/fs.h"

/* Two programs, since the kernel takes the strictest verdict of all: `calls` says which calls there
 * are, `requests` which ioctl requests there are not. */
struct confine_filter {
    scmp_filter_ctx calls, requests;
};

static const int kept_capabilities[] = {
    CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,      CAP_FSETID,     CAP_KILL,
    CAP_SETGID, CAP_SETUID,       CAP_SETPCAP,     CAP_SYS_CHROOT, CAP_NET_BIND_SERVICE,
    CAP_MKNOD,  CAP_SETFCAP,      CAP_AUDIT_WRITE,
};

int confine_capabilities(struct sb_err **err)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        bool keep = false;
        for (size_t i = 0; i < SB_ARRAY_LEN(kept_capabilities); i++) {
            keep |= kept_capabilities[i] == cap;
        }
        if (!keep && prctl(PR_CAPBSET_DROP, cap) < 0) {
            return sb_fail_errno(err, errno, "drop capability %d", cap);
        }
    }
    return 0;
}

void confine_halve_limits(void)
{
    static const __rlimit_resource_t counted[] = {RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE};
    for (size_t i = 0; i < SB_ARRAY_LEN(counted); i++) {
        struct rlimit limit;
        if (getrlimit(counted[i], &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
            limit.rlim_cur = limit.rlim_max = limit.rlim_cur / 2;
            setrlimit(counted[i], &limit);
        }
    }
}

/* /proc/sys/user is the user namespace's own, /proc/sys/fs the machine's (namespaces(7)). */
static int halve_watch(const char *machines, const char *ours, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, 64);
    if (sb_read_file(AT_FDCWD, machines, &text, NULL) < 0) {
        return 0; /* a kernel without inotify */
    }
    char half[24];
    snprintf(half, sizeof(half), "%lu", strtoul(text.data, NULL, 10) / 2);
    SB_CLEANUP(fd) int fd = open(ours, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, half, strlen(half)) < 0) {
        return sb_fail_errno(err, errno, "write '%s'", ours);
    }
    return 0;
}

int confine_halve_watches(struct sb_err **err)
{
    int r = halve_watch("/proc/sys/fs/inotify/max_user_instances",
                        "/proc/sys/user/max_inotify_instances", err);
    return r < 0 ? r
                 : halve_watch("/proc/sys/fs/inotify/max_user_watches",
                               "/proc/sys/user/max_inotify_watches", err);
}

int confine_core_dumps(struct sb_err **err)
{
    SB_CLEANUP(fd) int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
    char first;
    if (fd < 0 || read(fd, &first, 1) != 1 || first != '|') {
        return 0;
    }
    /* For such a program 0 does not count (core(5)), but 1 makes the kernel give up. */
    const struct rlimit none = {1, 1};
    return setrlimit(RLIMIT_CORE, &none) < 0 ? sb_fail_errno(err, errno, "limit core dumps") : 0;
}

/* Calls that are refused although libseccomp knows them: doors to kernel code that an agent's tools
 * do not need, to other namespaces, to keys that are not namespaced, or to the machine as a whole.
 */
static const char *const refused[] = {
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "_sysctl",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
};

static bool is_refused(const char *name)
{
    for (size_t i = 0; i < SB_ARRAY_LEN(refused); i++) {
        if (strcmp(refused[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Calls whose arguments decide. */
static int add_argument_rules(scmp_filter_ctx context)
{
    static const int namespaces[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,   CLONE_NEWNET,
                                     CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    int mask = 0;
    for (size_t i = 0; i < SB_ARRAY_LEN(namespaces); i++) {
        mask |= namespaces[i];
    }
    int r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, (scmp_datum_t)mask, 0));
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(families); i++) {
        r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0));
    }
    /* It makes sockets of every family, and loads their modules, before it finds that only this one
     * has pairs. */
    return r < 0 ? r
                 : seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
                                    SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
}

static bool has_argument_rules(int number)
{
    return number == SCMP_SYS(clone) || number == SCMP_SYS(clone3) || number == SCMP_SYS(socket) ||
           number == SCMP_SYS(socketpair);
}

/* Everything that libseccomp knows and that is not refused; what it does not know is newer than
 * this program and does not exist (ENOSYS, so that libraries fall back).  clone3 too: its flags lie
 * in memory where a filter cannot look. */
static int add_known_calls(scmp_filter_ctx context)
{
    enum { HIGHEST = 1024 };
    for (int number = 0; number < HIGHEST; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
        if (!name) {
            continue;
        }
        int r = 0;
        if (is_refused(name)) {
            r = seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), number, 0);
        } else if (!has_argument_rules(number)) {
            r = seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0);
        }
        free(name);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* TIOCSTI types into a terminal, TIOCLINUX pastes into a console.  Only the low half of the
 * argument counts for the kernel, so only that may be compared. */
static int add_request_rules(scmp_filter_ctx context)
{
    static const unsigned requests[] = {TIOCSTI, TIOCLINUX};
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(requests); i++) {
        r = seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, requests[i]));
    }
    return r;
}

static scmp_filter_ctx new_context(uint32_t default_action)
{
    scmp_filter_ctx context = seccomp_init(default_action);
    if (context) {
        /* A binary tree instead of a list: the filter runs on every call. */
        seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        /* sudo inside needs setuid to work; we have CAP_SYS_ADMIN here instead. */
        seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, 0);
    }
    return context;
}

int confine_filter_new(struct confine_filter **ret, struct sb_err **err)
{
    struct confine_filter *filter = sb_xcalloc(1, sizeof(*filter));
    filter->calls = new_context(SCMP_ACT_ERRNO(ENOSYS));
    filter->requests = new_context(SCMP_ACT_ALLOW);
    int r = filter->calls && filter->requests ? 0 : -ENOMEM;
    r = r < 0 ? r : add_known_calls(filter->calls);
    r = r < 0 ? r : add_argument_rules(filter->calls);
    r = r < 0 ? r : add_request_rules(filter->requests);
    if (r < 0) {
        confine_filter_free(filter);
        return sb_fail_errno(err, -r, "make the system call filter");
    }
    *ret = filter;
    return 0;
}

void confine_filter_free(struct confine_filter *filter)
{
    if (!filter) {
        return;
    }
    if (filter->calls) {
        seccomp_release(filter->calls);
    }
    if (filter->requests) {
        seccomp_release(filter->requests);
    }
    free(filter);
}

int confine_filter_load(const struct confine_filter *filter, struct sb_err **err)
{
    int r = seccomp_load(filter->requests);
    r = r < 0 ? r : seccomp_load(filter->calls);
    return r < 0 ? sb_fail_errno(err, -r, "load the system call filter") : 0;
}
