/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/layout.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/paths.h"

bool sandbox_name_valid(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > SANDBOX_NAME_MAX || !isalnum((unsigned char)name[0]) ||
        !isalnum((unsigned char)name[len - 1])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && name[i] != '-' && name[i] != '.') {
            return false;
        }
    }
    return strcmp(name, "default") != 0;
}

/* Words of the caller become paths here: nothing else may. */
static int check_name(const char *name, struct sb_err **err)
{
    if (sandbox_name_valid(name)) {
        return 0;
    }
    return sb_fail(err, SB_ENOTFOUND, "'%s' is not the name of a sandbox", name);
}

/* Sandboxes are trees of files that have nothing to do with what else is kept beside them: says so
 * to file systems that place together what lies together (ext4's Orlov allocator, chattr(1) T).
 * Where many files come and go, as around a home directory, a new one can cost three times more. */
static void spread_below(const char *directory)
{
    SB_CLEANUP(fd) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int flags = 0;
    if (fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_TOPDIR_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

int sandboxes_dir(char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *state = NULL;
    int r = sb_path_state(&state, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/sandboxes", state);
    if (access(path, F_OK) < 0) {
        spread_below(state);
        return sb_path_state_sub("sandboxes", ret_path, err);
    }
    *ret_path = sb_steal(&path);
    return 0;
}

int sandbox_dir(const char *name, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    int r = check_name(name, err);
    r = r < 0 ? r : sandboxes_dir(&base, err);
    if (r < 0) {
        return r;
    }
    *ret_path = sb_xasprintf("%s/%s", base, name);
    return 0;
}

int sandbox_runtime_dir(const char *name, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    int r = check_name(name, err);
    r = r < 0 ? r : sb_path_runtime(&base, err);
    if (r < 0) {
        return r;
    }
    *ret_path = sb_xasprintf("%s/%s", base, name);
    return 0;
}

int sandbox_log_path(const char *name, const char *suffix, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    int r = sb_path_state_sub("log", &base, err);
    if (r < 0) {
        return r;
    }
    *ret_path = sb_xasprintf("%s/%s%s", base, name, suffix);
    return 0;
}

int sandbox_control_connect(const char *runtime_dir)
{
    SB_CLEANUP(fd) int dir = open(runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return -errno;
    }
    SB_CLEANUP(fd) int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0) {
        return -errno;
    }
    /* Through /proc, because a path may be longer than sun_path. */
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/control", dir);
    if (connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return -errno;
    }
    return sb_steal_fd(&sock);
}
