/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/paths.h"
#include "sandbox/layout.h"
#include "sandbox/template_build.h"

/* Changes when any of these does: enough to notice an upgrade, new certificates or a new init. */
static const char *const fingerprint_paths[] = {"/etc/ld.so.cache",
                                                "/etc/ssl/certs/ca-certificates.crt",
                                                "/etc/alternatives",
                                                "/etc/passwd",
                                                "/etc/os-release",
                                                "/etc/localtime",
                                                "/etc"};
enum { TEMPLATE_VERSION = 4 };

static uint64_t mix(uint64_t hash, uint64_t value)
{
    for (int i = 0; i < 8; i++, value >>= 8) {
        hash = (hash ^ (value & 0xff)) * UINT64_C(0x100000001b3); /* FNV-1a */
    }
    return hash;
}

static uint64_t mix_file(uint64_t hash, const char *path)
{
    struct stat st;
    return stat(path, &st) < 0
               ? mix(hash, 0)
               : mix(mix(mix(hash, (uint64_t)st.st_mtim.tv_sec), (uint64_t)st.st_mtim.tv_nsec),
                     (uint64_t)st.st_size);
}

/* `init` is the program whose copy is the template's sudo. */
static uint64_t fingerprint(const char *init)
{
    uint64_t hash = mix(UINT64_C(0xcbf29ce484222325), TEMPLATE_VERSION);
    for (size_t i = 0; i < SB_ARRAY_LEN(fingerprint_paths); i++) {
        hash = mix_file(hash, fingerprint_paths[i]);
    }
    return mix_file(hash, init);
}

/* ---- holding and removing ---- */

/* A shared lock on its directory keeps a template; whoever can lock it alone may remove it.
 * -ENOENT: it is not there, or will not be in a moment. */
static int hold(const char *path, int *ret_lock)
{
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        return -ENOENT;
    }
    /* It may have been removed between the two calls. */
    struct stat held, named;
    if (fstat(fd, &held) < 0 || stat(path, &named) < 0 || held.st_ino != named.st_ino) {
        return -ENOENT;
    }
    *ret_lock = sb_steal_fd(&fd);
    return 0;
}

/* Under another name first, so that nobody finds a part of it. */
static void remove_unused(const char *path)
{
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SB_CLEANUP(free) char *old = sb_xasprintf("%s.old", path);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return;
    }
    idmap_remove_tree(rename(path, old) == 0 ? old : path, NULL);
}

/* What is left of earlier states of the host, of other programs, and of interrupted builds. */
static void remove_others(const char *base, const char *keep)
{
    DIR *dir = opendir(base);
    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", base, entry->d_name);
        if (strncmp(entry->d_name, "host-", 5) == 0 && strcmp(path, keep) != 0) {
            remove_unused(path);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static int make(const struct idmap *map, const char *base, const char *path, int init_fd,
                int *ret_lock, struct sb_err **err)
{
    /* One at a time: the others wait, and find it made. */
    SB_CLEANUP(free) char *lock_path = sb_xasprintf("%s/lock", base);
    SB_CLEANUP(fd) int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0) {
        return sb_fail_errno(err, errno, "lock '%s'", lock_path);
    }
    int r = hold(path, ret_lock);
    if (r != -ENOENT) {
        return r;
    }
    r = template_build(map, path, init_fd, err);
    if (r < 0) {
        return r;
    }
    remove_others(base, path);
    return hold(path, ret_lock);
}

int template_take(const struct idmap *map, int init_fd, char **ret_path, int *ret_lock,
                  struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    SB_CLEANUP(free) char *init = NULL;
    int r = sb_path_state_sub("templates", &base, err);
    r = r < 0 ? r : sb_path_helper("sbx-init", &init, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free)
    char *path =
        sb_xasprintf("%s/host-%s-%016" PRIx64, base, idmap_mode_name(map->mode), fingerprint(init));
    r = hold(path, ret_lock);
    if (r == -ENOENT) {
        r = make(map, base, path, init_fd, ret_lock, err);
    }
    if (r == 0) {
        *ret_path = sb_steal(&path);
    } else if (err && !*err) {
        sb_fail_errno(err, -r, "open the host template '%s'", path);
    }
    return r;
}
