/* SPDX-License-Identifier: Apache-2.0 */
#include "init/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static int open_inside(int dir, const char *path)
{
    return sb_openat2(dir, path, O_PATH | O_DIRECTORY, RESOLVE_NO_MAGICLINKS);
}

int inside_make_dir(const char *path, bool *ret_made)
{
    bool made = false;
    SB_CLEANUP(fd) int dir = open_inside(AT_FDCWD, path);
    if (dir == -ENOENT) {
        SB_CLEANUP(free) char *copy = sb_xstrdup(path);
        char *rest = copy;
        dir = open_inside(AT_FDCWD, "/");
        for (const char *name; dir >= 0 && (name = strsep(&rest, "/"));) {
            if (!*name) {
                continue;
            }
            made = mkdirat(dir, name, 0755) == 0;
            if (!made && errno != EEXIST) {
                return -errno;
            }
            int next = open_inside(dir, name);
            close(dir);
            dir = next;
        }
    }
    if (ret_made) {
        *ret_made = made;
    }
    return sb_steal_fd(&dir);
}
