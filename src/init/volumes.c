/* SPDX-License-Identifier: Apache-2.0 */
#include "init/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/msg.h"
#include "init/inside.h"

#define AGENT_ID   1000
#define AGENT_TEXT "1000"
enum { MODE_TMPFS = 01777, MODE_DIRECTORY = 0755, INODES_MAX = 1000000 };

/* What each file system in memory may take; 0: any. */
struct share {
    uint64_t bytes, inodes;
};

struct option {
    const char *key;
    char value[24];
};

static int new_tmpfs(const struct option *options, size_t count)
{
    SB_CLEANUP(fd) int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0) {
        return -errno;
    }
    for (size_t i = 0; i < count; i++) {
        if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, options[i].key, options[i].value, 0) <
            0) {
            return -errno;
        }
    }
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        return -errno;
    }
    int tree = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return tree < 0 ? -errno : tree;
}

static int mount_tmpfs(int dir, mode_t mode, uint64_t bytes, const struct share *share)
{
    if (!bytes || (share->bytes && bytes > share->bytes)) {
        bytes = share->bytes;
    }
    struct option options[] = {{"source", "tmpfs"}, {"uid", AGENT_TEXT}, {"gid", AGENT_TEXT},
                               {"mode", ""},        {"nr_inodes", ""},   {"size", ""}};
    snprintf(options[3].value, sizeof(options[3].value), "%o", mode);
    snprintf(options[4].value, sizeof(options[4].value), "%" PRIu64, share->inodes);
    snprintf(options[5].value, sizeof(options[5].value), "%" PRIu64, bytes);
    /* Without a size the kernel's own default holds. */
    SB_CLEANUP(fd) int tree = new_tmpfs(options, bytes ? 6 : 5);
    if (tree < 0) {
        return tree;
    }
    return syscall(SYS_move_mount, tree, "", dir, "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
               ? -errno
               : 0;
}

/* The descriptor is O_PATH, and /proc is the sandbox's own: by the name ".". */
static int give_to_agent(int dir, mode_t mode)
{
    SB_CLEANUP(fd) int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fchown(fd, AGENT_ID, AGENT_ID) < 0 || fchmod(fd, mode) < 0 ? -errno : 0;
}

static bool in_memory(const json_t *volume)
{
    const char *type = sb_json_str(volume, "type");
    return type && strcmp(type, "tmpfs") == 0;
}

static int mount_one(const json_t *volume, const struct share *share)
{
    const char *path = sb_json_str(volume, "path");
    mode_t mode = (mode_t)sb_json_int(volume, "mode", 0) & 07777;
    bool made = false;
    SB_CLEANUP(fd) int dir = path ? inside_make_dir(path, &made) : -EINVAL;
    if (dir < 0) {
        return dir;
    }
    if (in_memory(volume)) {
        return mount_tmpfs(dir, mode ? mode : MODE_TMPFS, (uint64_t)sb_json_int(volume, "bytes", 0),
                           share);
    }
    return made ? give_to_agent(dir, mode ? mode : MODE_DIRECTORY) : 0;
}

static int fail(const json_t *volume, int code, struct sb_err **err)
{
    const char *path = sb_json_str(volume, "path");
    int r = sb_fail_errno(err, -code, "make the volume '%s' of a kit", path ? path : "?");
    if (code == -ENOENT || code == -ENOTDIR || code == -ELOOP) {
        sb_hint(err, "the sandbox has put a link or a file there: 'sbx rm' and make it anew");
    }
    return r;
}

int volumes_mount(const json_t *volumes, uint64_t limit, struct sb_err **err)
{
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        count += in_memory(json_array_get(volumes, i));
    }
    const struct share share = {.bytes = count ? limit / count : 0,
                                .inodes = count ? INODES_MAX / count : 0};
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        const json_t *volume = json_array_get(volumes, i);
        int r = mount_one(volume, &share);
        if (r < 0) {
            return fail(volume, r, err);
        }
    }
    return 0;
}
