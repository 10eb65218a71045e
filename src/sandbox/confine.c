/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "filter/load.h"
#include "filter/machine_calls.inc"
#include "filter/machine_groups.inc"
#include "filter/sandbox_calls.inc"
#include "filter/sandbox_requests.inc"

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

int confine_single_machine(struct sb_err **err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct powers[2];
    if (syscall(SYS_capget, &header, powers) < 0) {
        return sb_fail_errno(err, errno, "read the capabilities");
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(kept_capabilities); i++) {
        powers[0].inheritable |= 1U << kept_capabilities[i];
    }
    int r = syscall(SYS_capset, &header, powers) < 0 ? -errno : 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(kept_capabilities); i++) {
        r = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept_capabilities[i], 0, 0) < 0 ? -errno
                                                                                        : 0;
    }
    if (r < 0) {
        return sb_fail_errno(err, -r, "keep the capabilities");
    }
    r = filter_load(filter_machine_groups, SB_ARRAY_LEN(filter_machine_groups));
    return r < 0 ? sb_fail_errno(err, -r, "load the system call filter") : 0;
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

int confine_calls(bool for_machine, struct sb_err **err)
{
    int r = filter_load(filter_sandbox_requests, SB_ARRAY_LEN(filter_sandbox_requests));
    if (r == 0) {
        r = for_machine ? filter_load(filter_machine_calls, SB_ARRAY_LEN(filter_machine_calls))
                        : filter_load(filter_sandbox_calls, SB_ARRAY_LEN(filter_sandbox_calls));
    }
    return r < 0 ? sb_fail_errno(err, -r, "load the system call filter") : 0;
}
