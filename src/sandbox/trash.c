/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/trash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs.h"
#include "sandbox/idmap.h"
#include "sandbox/state.h"

#define PREFIX ".removed." /* no sandbox's name begins so */

static bool is_trash(const char *name)
{
    return strncmp(name, PREFIX, strlen(PREFIX)) == 0 && !strchr(name, '/');
}

static char *beside(const char *dir, const char *name)
{
    return sb_xasprintf("%.*s/%s", (int)(strrchr(dir, '/') - dir), dir, name);
}

int trash_put(const char *dir, char **ret_name, struct sb_err **err)
{
    SB_CLEANUP(free) char *name = sb_xasprintf(PREFIX "%s.%d", strrchr(dir, '/') + 1, getpid());
    SB_CLEANUP(free) char *path = beside(dir, name);
    if (rename(dir, path) < 0) {
        return sb_fail_errno(err, errno, "remove '%s'", dir);
    }
    *ret_name = sb_steal(&name);
    return 0;
}

int trash_remove(const char *dir, const char *name, struct sb_err **err)
{
    if (!is_trash(name)) {
        return sb_fail(err, SB_EPROTO, "'%s' is not what a removed sandbox leaves", name);
    }
    SB_CLEANUP(free) char *path = beside(dir, name);
    return idmap_remove_tree(path, err);
}

/* Its lock goes with the rest: without one it has been taken, and two who remove the same do no
 * harm.  `wait`: until who holds it has ended, or -EINTR. */
static int take(const char *path, bool wait, int *ret_lock)
{
    SB_CLEANUP(free) char *lock = sb_xasprintf("%s/" STATE_LOCK, path);
    SB_CLEANUP(fd) int fd = open(lock, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0) {
        return -errno;
    }
    *ret_lock = sb_steal_fd(&fd);
    return 0;
}

static int select_trash(const struct dirent *entry)
{
    return is_trash(entry->d_name);
}

int trash_sweep(const char *base, bool wait, struct sb_err **err)
{
    struct dirent **entries = NULL;
    int count = scandir(base, &entries, select_trash, NULL);
    int r = 0;
    for (int i = 0; i < count; i++) {
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", base, entries[i]->d_name);
        SB_CLEANUP(fd) int lock = -1;
        if (r == 0 && take(path, wait, &lock) == 0) {
            r = idmap_remove_tree(path, err);
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}
