/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/lockdown.h"

#include <errno.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the loop, the sockets, OpenSSL, c-ares and the allocator need. */
static const int allowed[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(splice),
    SCMP_SYS(pipe2),
    SCMP_SYS(shutdown),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(fcntl),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(futex),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(tgkill),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(ioctl),
};

/* Libraries look for files of their own and go on without them. */
static const int refused[] = {
    SCMP_SYS(open),   SCMP_SYS(openat),   SCMP_SYS(access),    SCMP_SYS(faccessat),
    SCMP_SYS(stat),   SCMP_SYS(readlink), SCMP_SYS(getuid),    SCMP_SYS(geteuid),
    SCMP_SYS(getgid), SCMP_SYS(getegid),  SCMP_SYS(prlimit64),
};

/* Memory may be mapped and protected, but never to be executed. */
static int allow_memory(scmp_filter_ctx filter)
{
    const int calls[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
    const scmp_datum_t exec = 4; /* PROT_EXEC */
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(calls); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
    }
    return r;
}

/* Outgoing connections and name resolution: IPv4 and IPv6 only. */
static int allow_sockets(scmp_filter_ctx filter)
{
    const scmp_datum_t families[] = {2, 10}; /* AF_INET, AF_INET6 */
    int r = 0;
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(families); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, families[i], 0));
    }
    return r;
}

static int load_filter(scmp_filter_ctx filter)
{
    int r = allow_memory(filter);
    r = r ? r : allow_sockets(filter);
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(allowed); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(refused); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
    }
    return r ? r : seccomp_load(filter);
}

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
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    r = filter ? load_filter(filter) : -ENOMEM;
    seccomp_release(filter);
    return r < 0 ? sb_fail_errno(err, -r, "cannot load the system call filter") : 0;
}
