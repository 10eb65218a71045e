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

/* 1: made, 0: it was there, or -errno. */
static int make_below(int dir, const char *name)
{
    struct stat above;
    if (mkdirat(dir, name, 0755) < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    /* One whom no id of ours stands for keeps nothing: then it is ours. */
    if (fstat(dir, &above) == 0 && above.st_uid != geteuid() &&
        fchownat(dir, name, above.st_uid, above.st_gid, AT_SYMLINK_NOFOLLOW) < 0 &&
        errno != EINVAL && errno != EPERM) {
        return -errno;
    }
    return 1;
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
            int r = make_below(dir, name);
            made = r > 0;
            int next = r < 0 ? r : open_inside(dir, name);
            close(dir);
            dir = next;
        }
    }
    if (ret_made) {
        *ret_made = made;
    }
    return sb_steal_fd(&dir);
}
