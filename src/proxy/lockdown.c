/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/lockdown.h"

#include <errno.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter/load.h"
#include "filter/proxy.inc"

/* A kernel without Landlock leaves the seccomp filter, which knows no open either. */
static int forbid_files(struct sb_err **err)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) {
        return 0;
    }
    /* 13 rights in ABI 1, REFER in 2, TRUNCATE in 3. */
    struct landlock_ruleset_attr attr = {.handled_access_fs = (1u << (abi < 2   ? 13
                                                                      : abi < 3 ? 14
                                                                                : 15)) -
                                                              1};
    SB_CLEANUP(fd) int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0) {
        return sb_fail_errno(err, errno, "Landlock");
    }
    return 0;
}

int lockdown(struct sb_err **err)
{
    struct rlimit none = {0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_CORE, &none) < 0) {
        return sb_fail_errno(err, errno, "cannot drop privileges");
    }
    int r = forbid_files(err);
    if (r < 0) {
        return r;
    }
    r = filter_load(filter_proxy, SB_ARRAY_LEN(filter_proxy));
    return r < 0 ? sb_fail_errno(err, -r, "cannot load the system call filter") : 0;
}
