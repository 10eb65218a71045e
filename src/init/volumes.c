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

enum { AGENT = 1000, MODE_TMPFS = 01777, MODE_DIRECTORY = 0755, INODES_MAX = 1000000 };

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

static int mount_tmpfs(int dir, mode_t mode, uint64_t bytes, uint64_t limit)
{
    struct option options[5] = {
        {.key = "uid"}, {.key = "gid"}, {.key = "mode"}, {.key = "nr_inodes"}, {.key = "size"}};
    snprintf(options[0].value, sizeof(options[0].value), "%d", AGENT);
    snprintf(options[1].value, sizeof(options[1].value), "%d", AGENT);
    snprintf(options[2].value, sizeof(options[2].value), "%o", mode);
    snprintf(options[3].value, sizeof(options[3].value), "%d", INODES_MAX);
    if (!bytes || (limit && bytes > limit)) {
        bytes = limit;
    }
    snprintf(options[4].value, sizeof(options[4].value), "%" PRIu64, bytes);
    SB_CLEANUP(fd) int tree = new_tmpfs(options, bytes ? 5 : 4);
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
    return fd < 0 || fchown(fd, AGENT, AGENT) < 0 || fchmod(fd, mode) < 0 ? -errno : 0;
}

static int mount_one(const json_t *volume, uint64_t limit)
{
    const char *path = sb_json_str(volume, "path"), *type = sb_json_str(volume, "type");
    mode_t mode = (mode_t)sb_json_int(volume, "mode", 0) & 07777;
    bool in_memory = type && strcmp(type, "tmpfs") == 0;
    bool made = false;
    SB_CLEANUP(fd) int dir = path ? inside_make_dir(path, &made) : -EINVAL;
    if (dir < 0) {
        return dir;
    }
    if (in_memory) {
        return mount_tmpfs(dir, mode ? mode : MODE_TMPFS, (uint64_t)sb_json_int(volume, "bytes", 0),
                           limit);
    }
    return made ? give_to_agent(dir, mode ? mode : MODE_DIRECTORY) : 0;
}

int volumes_mount(const json_t *volumes, uint64_t limit, struct sb_err **err)
{
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        const json_t *volume = json_array_get(volumes, i);
        int r = mount_one(volume, limit);
        if (r < 0) {
            const char *path = sb_json_str(volume, "path");
            return sb_fail_errno(err, -r, "make the volume '%s' of a kit", path ? path : "?");
        }
    }
    return 0;
}
