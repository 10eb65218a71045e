/* SPDX-License-Identifier: Apache-2.0
 * What sbx-vm may ask of the kernel once its machine runs: it moves bytes between descriptors that
 * it has or is sent, and makes the pipes and sockets that stand for the guest's.  All else kills
 * it. */
#include <stdint.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "filter/compile.h"

static const int allowed[] = {
    SCMP_SYS(read),           SCMP_SYS(write),        SCMP_SYS(readv),
    SCMP_SYS(writev),         SCMP_SYS(close),        SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),        SCMP_SYS(sendto),       SCMP_SYS(sendmsg),
    SCMP_SYS(pipe2),          SCMP_SYS(shutdown),     SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),     SCMP_SYS(fcntl),        SCMP_SYS(lseek),
    SCMP_SYS(fstat),          SCMP_SYS(newfstatat), /* what fstat() is in newer C libraries; there
                                                       is nothing to be found */
    SCMP_SYS(fchmod),         SCMP_SYS(ftruncate),    SCMP_SYS(memfd_create),
    SCMP_SYS(epoll_wait),     SCMP_SYS(epoll_pwait),  SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1),  SCMP_SYS(poll),         SCMP_SYS(timerfd_settime),
    SCMP_SYS(clock_gettime),  SCMP_SYS(gettimeofday), SCMP_SYS(wait4),
    SCMP_SYS(getrandom),      SCMP_SYS(getpid),       SCMP_SYS(gettid),
    SCMP_SYS(futex),          SCMP_SYS(brk),          SCMP_SYS(munmap),
    SCMP_SYS(mremap),         SCMP_SYS(madvise),      SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),           SCMP_SYS(exit_group),   SCMP_SYS(tgkill),
};

static int add_rules(scmp_filter_ctx filter)
{
    const scmp_datum_t exec = 4; /* PROT_EXEC */
    int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
    r = r ? r
          : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
    /* AF_UNIX */
    r = r ? r
          : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
                             SCMP_A0(SCMP_CMP_EQ, 1, 0));
    const unsigned long requests[] = {FIONREAD, TIOCGPTN, TCGETS};
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(requests); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, requests[i]));
    }
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(allowed); i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    return r;
}

scmp_filter_ctx filter_monitor(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    return filter && add_rules(filter) == 0 ? filter : NULL;
}
