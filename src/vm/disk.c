/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"

/* Takes what it says on standard error. */
static int run(const char *program, char **argv, struct sb_buf *said, int *ret_status)
{
    char *env[] = {NULL};
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
    pid_t pid;
    int r = posix_spawn(&pid, program, &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    sb_read_fd(fds[0], said);
    close(fds[0]);
    while (r == 0 && waitpid(pid, ret_status, 0) < 0 && errno == EINTR) {
    }
    return -r;
}

/* mke2fs writes only the file system's skeleton; the guest's kernel fills in the rest as it goes.
 * No reserved blocks: they are for a system's root daemons. */
static int make_file_system(const char *path, struct sb_err **err)
{
    enum { SAID_MAX = 512 };
    static const char program[] = "/sbin/mke2fs";
    char *argv[] = {(char[]){"mke2fs"},
                    (char[]){"-q"},
                    (char[]){"-F"},
                    (char[]){"-t"},
                    (char[]){"ext4"},
                    (char[]){"-m"},
                    (char[]){"0"},
                    (char[]){"-J"},
                    (char[]){"size=32"},
                    (char[]){"-E"},
                    (char[]){"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"},
                    (char *)(unsigned long)path,
                    NULL};
    SB_CLEANUP(buf) struct sb_buf said;
    sb_buf_init(&said, SAID_MAX);
    int status = 0;
    int r = run(program, argv, &said, &status);
    if (r < 0) {
        sb_fail_errno(err, -r, "run '%s'", program);
        if (r == -ENOENT) {
            sb_hint(err, "install the package e2fsprogs");
        }
        return r;
    }
    SB_CLEANUP(free) char *why = sb_xstrndup(said.len ? said.data : "", said.len);
    why[strcspn(why, "\n")] = '\0';
    return status == 0 ? 0 : sb_fail(err, SB_ESTART, "make the disk '%s': %s", path, why);
}

/* Under another name until it is whole: a disk that exists is a good one. */
static int make_disk(const char *path, unsigned long long size, struct sb_err **err)
{
    SB_CLEANUP(free) char *temp = sb_xasprintf("%s.new", path);
    SB_CLEANUP(fd) int fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        return sb_fail_errno(err, errno, "make the sandbox's disk '%s'", temp);
    }
    int r = make_file_system(temp, err);
    if (r == 0 && rename(temp, path) < 0) {
        r = sb_fail_errno(err, errno, "rename '%s'", temp);
    }
    if (r < 0) {
        unlink(temp);
    }
    return r;
}

int disk_open(const char *path, unsigned long long size, struct sb_err **err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        int r = make_disk(path, size, err);
        if (r < 0) {
            return r;
        }
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    }
    return fd < 0 ? sb_fail_errno(err, errno, "open the sandbox's disk '%s'", path) : fd;
}
