/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* mke2fs writes only the file system's skeleton; the guest's kernel fills in the rest as it goes.
 * No reserved blocks: they are for a system's root daemons. */
static int make_file_system(const char *path, struct sb_err **err)
{
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
    char *env[] = {NULL};
    pid_t pid;
    int status = 0;
    int r = posix_spawn(&pid, program, NULL, NULL, argv, env);
    if (r != 0) {
        sb_fail_errno(err, r, "run '%s'", program);
        sb_hint(err, "install the package e2fsprogs");
        return -r;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status == 0 ? 0 : sb_fail(err, SB_ESTART, "mke2fs could not format '%s'", path);
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
