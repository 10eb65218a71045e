/* SPDX-License-Identifier: Apache-2.0
 * What sbx-proxy may ask of the kernel once it is locked in; all else kills it. */
#include <errno.h>

#include "base/cleanup.h"
#include "filter/compile.h"

/* What the loop, the sockets, OpenSSL, c-ares and the allocator need. */
static const int allowed[] = {
    SCMP_SYS(read),          SCMP_SYS(write),
    SCMP_SYS(pread64),       SCMP_SYS(pwrite64),
    SCMP_SYS(readv),         SCMP_SYS(writev),
    SCMP_SYS(close),         SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),       SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),       SCMP_SYS(sendmmsg),
    SCMP_SYS(splice),        SCMP_SYS(pipe2),
    SCMP_SYS(shutdown),      SCMP_SYS(accept4),
    SCMP_SYS(connect),       SCMP_SYS(bind),
    SCMP_SYS(getsockname),   SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),    SCMP_SYS(setsockopt),
    SCMP_SYS(fcntl),         SCMP_SYS(dup3),
    SCMP_SYS(lseek),         SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),   SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),          SCMP_SYS(ppoll),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),  SCMP_SYS(time),
    SCMP_SYS(getrandom),     SCMP_SYS(getpid),
    SCMP_SYS(gettid),        SCMP_SYS(futex),
    SCMP_SYS(brk),           SCMP_SYS(munmap),
    SCMP_SYS(mremap),        SCMP_SYS(madvise),
    SCMP_SYS(mlock),         SCMP_SYS(munlock),
    SCMP_SYS(rt_sigreturn),  SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),  SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),          SCMP_SYS(exit_group),
    SCMP_SYS(tgkill),        SCMP_SYS(sched_yield),
    SCMP_SYS(sysinfo),       SCMP_SYS(uname),
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
    /* Two ends that both are ours, for TLS to an upstream proxy (proxy/relay.h). */
    const scmp_datum_t local = 1; /* AF_UNIX */
    int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
                             SCMP_A0(SCMP_CMP_EQ, local, 0));
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(families); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, families[i], 0));
    }
    return r;
}

static int add_rules(scmp_filter_ctx filter)
{
    int r = allow_memory(filter);
    r = r ? r : allow_sockets(filter);
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(allowed); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(refused); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
    }
    return r;
}

scmp_filter_ctx filter_proxy(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    return filter && add_rules(filter) == 0 ? filter : NULL;
}
