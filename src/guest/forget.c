/* SPDX-License-Identifier: Apache-2.0
 * virtiofsd holds a descriptor of the host's for each of its files that this kernel remembers, and
 * where it may have no more, whoever looks for another file fails.  A kernel forgets for want of
 * memory only.  So it is watched, and told to forget what nobody uses while half of the descriptors
 * are left. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/msg.h"
#include "guest/guest.h"

enum {
    TEXT_MAX = 1 << 20,
    PER_MS = 100, /* files that virtiofsd can show in a millisecond, and more than that */
    NAP_MS_MIN = 10,
    NAP_MS_MAX = 1000,
};

/* The first number behind `name` in a file of /proc; negative when it does not say. */
static long read_number(const char *path, const char *name)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, TEXT_MAX);
    if (sb_read_file(AT_FDCWD, path, &text, NULL) < 0 || !text.data) {
        return -1;
    }
    const char *at = strstr(text.data, name);
    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

static long count_inodes(void)
{
    return read_number("/proc/sys/fs/inode-nr", "");
}

/* How many of the host's files are remembered.  How many inodes there are more than `before` is
 * quickly read, and enough to know while those are few, or where the kernel does not say more. */
static long count_known(long before, long few)
{
    long all = count_inodes() - before;
    long known = all > few ? read_number("/proc/slabinfo", "\nfuse_inode ") : -1;
    return known < 0 ? all : known;
}

static void drop_unused(void)
{
    SB_CLEANUP(fd) int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, "2", 1);
    (void)n; /* then programs fail that need more files than there are descriptors */
}

static _Noreturn void watch(long limit)
{
    long ms = limit / 2 / PER_MS;
    ms = ms < NAP_MS_MIN ? NAP_MS_MIN : ms > NAP_MS_MAX ? NAP_MS_MAX : ms;
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    const long before = count_inodes();
    long left = 0; /* when the kernel last forgot: what is in use, which it cannot */
    for (;;) {
        nanosleep(&nap, NULL);
        long known = count_known(before, limit / 2);
        left = known < left ? known : left;
        long more = (limit - left) / 4 > limit / 16 ? (limit - left) / 4 : limit / 16;
        if (known > limit / 2 && known - left > more) {
            drop_unused();
            left = limit; /* the next round sees how many are left */
        }
    }
}

int forget_start(const json_t *boot, struct sb_err **err)
{
    long limit = (long)sb_json_int(boot, "descriptors", 0);
    /* A process of its own, since it must not wait for the relay, nor the relay for the kernel. */
    pid_t pid = limit > 0 ? fork() : 1;
    if (pid == 0) {
        syscall(SYS_close_range, 3, ~0U, 0);
        prctl(PR_SET_NAME, "sbx-forget");
        setpriority(PRIO_PROCESS, 0, PRIO_MIN);
        watch(limit);
    }
    return pid < 0 ? sb_fail_errno(err, errno, "watch the guest's files") : 0;
}
