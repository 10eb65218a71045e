/* SPDX-License-Identifier: Apache-2.0
 * The kernel begins with one processor, since what it does for a module (patching code, changing
 * what pages allow) it would have to agree upon with all others. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/err.h"
#include "guest/guest.h"

/* A processor that cannot be had is told of, and does not end the machine. */
static void start_all(void)
{
    for (unsigned number = 1;; number++) {
        SB_CLEANUP(free)
        char *path = sb_xasprintf("/sys/devices/system/cpu/cpu%u/online", number);
        SB_CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0) {
            return;
        }
        if (write(fd, "1", 1) < 0) {
            SB_CLEANUP(free) char *text = sb_xasprintf("processor %u: %s", number, strerror(errno));
            log_line(3, text);
        }
    }
}

pid_t cpus_start_beside(struct sb_err **err)
{
    pid_t pid = fork();
    if (pid == 0) {
        start_all();
        _exit(0);
    }
    return pid < 0 ? sb_fail_errno(err, errno, "start the guest's processors") : pid;
}
