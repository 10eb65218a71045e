/* SPDX-License-Identifier: Apache-2.0
 * What a process inside a sandbox may ask of the kernel, and what the processes that run a machine.
 *
 * Two programs, since the kernel takes the strictest verdict of all: `calls` says which calls there
 * are, `requests` which ioctl requests there are not.  A machine's processes filter their own calls
 * more strictly; this holds also before they do, and for threads that they forget. */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "filter/compile.h"

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

/* virtiofsd's threads have a working directory each. */
static int add_machine_rules(scmp_filter_ctx context)
{
    return seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(unshare), 1,
                            SCMP_A0(SCMP_CMP_EQ, CLONE_FS, 0));
}

static bool has_argument_rules(int number, bool for_machine)
{
    return (for_machine && number == SCMP_SYS(unshare)) || number == SCMP_SYS(clone) ||
           number == SCMP_SYS(clone3) || number == SCMP_SYS(socket) ||
           number == SCMP_SYS(socketpair);
}

/* Everything that libseccomp knows and that is not refused; what it does not know is newer than
 * this program and does not exist (ENOSYS, so that libraries fall back).  clone3 too: its flags lie
 * in memory where a filter cannot look. */
static int add_known_calls(scmp_filter_ctx context, bool for_machine)
{
    enum { HIGHEST = 1024 };
    for (int number = 0; number < HIGHEST; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
        if (!name) {
            continue;
        }
        int r = 0;
        if (!has_argument_rules(number, for_machine)) {
            r = seccomp_rule_add(context, is_refused(name) ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW,
                                 number, 0);
        }
        free(name);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* What is refused for its arguments.  TIOCSTI types into a terminal, TIOCLINUX pastes into a
 * console.  Only the low half of the argument counts for the kernel, so only that may be compared.
 */
static int add_request_rules(scmp_filter_ctx context)
{
    static const unsigned requests[] = {TIOCSTI, TIOCLINUX};
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(requests); i++) {
        r = seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, requests[i]));
    }
    /* Without descriptors process 1 could take no orders; where there is one user id, it has that
     * of all. */
    return r < 0 ? r
                 : seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), 2,
                                    SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffffU, 1),
                                    SCMP_A2(SCMP_CMP_NE, 0, 0));
}

static scmp_filter_ctx new_context(uint32_t default_action)
{
    scmp_filter_ctx context = seccomp_init(default_action);
    if (context) {
        /* A binary tree instead of a list: the filter runs on every call. */
        seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    }
    return context;
}

scmp_filter_ctx filter_sandbox_calls(void)
{
    scmp_filter_ctx context = new_context(SCMP_ACT_ERRNO(ENOSYS));
    bool good = context && add_known_calls(context, false) == 0 && add_argument_rules(context) == 0;
    return good ? context : NULL;
}

scmp_filter_ctx filter_machine_calls(void)
{
    scmp_filter_ctx context = new_context(SCMP_ACT_ERRNO(ENOSYS));
    bool good = context && add_known_calls(context, true) == 0 &&
                add_argument_rules(context) == 0 && add_machine_rules(context) == 0;
    return good ? context : NULL;
}

/* In a user namespace of a single id nobody may change his groups; virtiofsd, which wants to have
 * none, takes a refusal for a reason to end. */
scmp_filter_ctx filter_machine_groups(void)
{
    scmp_filter_ctx context = new_context(SCMP_ACT_ALLOW);
    return context && seccomp_rule_add(context, SCMP_ACT_ERRNO(0), SCMP_SYS(setgroups), 0) == 0
               ? context
               : NULL;
}

scmp_filter_ctx filter_sandbox_requests(void)
{
    scmp_filter_ctx context = new_context(SCMP_ACT_ALLOW);
    return context && add_request_rules(context) == 0 ? context : NULL;
}
