/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/guest.h"

enum { LIST_MAX = 64 * 1024 };

static int load(const char *path)
{
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    /* A driver whose device this machine does not have may refuse. */
    bool bad = syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV &&
               errno != EOPNOTSUPP;
    return bad ? -errno : 0;
}

int modules_load(const char *list, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, LIST_MAX);
    int r = sb_read_file(AT_FDCWD, list, &text, NULL);
    if (r == -ENOENT) {
        return 0; /* a kernel that has everything built in */
    }
    char *rest = text.data;
    for (const char *path; r == 0 && (path = strsep(&rest, "\n"));) {
        r = *path ? load(path) : 0;
        if (r < 0) {
            return sb_fail_errno(err, -r, "load the kernel module '%s'", path);
        }
    }
    return r < 0 ? sb_fail_errno(err, -r, "read '%s'", list) : 0;
}
