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

/* The layers hold files with the sandbox's ids.  Real root can remove them; an ordinary user needs
 * a process with those ids. */
static int remove_layers(const char *path, struct sb_err **err)
{
    int r = sb_remove_tree(AT_FDCWD, path);
    struct idmap map = idmap_choose(0);
    if (r == 0 || map.mode == IDMAP_ROOT) {
        return r < 0 ? sb_fail_errno(err, -r, "remove '%s'", path) : 0;
    }
    return idmap_remove_tree(&map, path, err);
}

int trash_remove(const char *dir, const char *name, struct sb_err **err)
{
    if (!is_trash(name)) {
        return sb_fail(err, SB_EPROTO, "'%s' is not what a removed sandbox leaves", name);
    }
    SB_CLEANUP(free) char *path = beside(dir, name);
    return remove_layers(path, err);
}

/* Its lock goes with the rest: without one it has been taken, and two who remove the same do no
 * harm. */
static bool is_held(const char *path)
{
    SB_CLEANUP(free) char *lock = sb_xasprintf("%s/" STATE_LOCK, path);
    SB_CLEANUP(fd) int fd = open(lock, O_RDWR | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static int select_trash(const struct dirent *entry)
{
    return is_trash(entry->d_name);
}

int trash_sweep(const char *base, struct sb_err **err)
{
    struct dirent **entries = NULL;
    int count = scandir(base, &entries, select_trash, NULL);
    int r = 0;
    for (int i = 0; i < count; i++) {
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", base, entries[i]->d_name);
        r = r < 0 || is_held(path) ? r : remove_layers(path, err);
        free(entries[i]);
    }
    free(entries);
    return r;
}
