/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/guest.h"

enum { LIST_MAX = 64 * 1024 };

static int load(const char *path)
{
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    /* A driver whose device this machine does not have may refuse. */
    bool bad = syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV &&
               errno != EOPNOTSUPP;
    return bad ? -errno : 0;
}

int modules_load(const char *list, struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, LIST_MAX);
    int r = sb_read_file(AT_FDCWD, list, &text, NULL);
    if (r == -ENOENT) {
        return 0; /* a kernel that has everything built in */
    }
    char *rest = text.data;
    for (const char *path; r == 0 && (path = strsep(&rest, "\n"));) {
        r = *path ? load(path) : 0;
        if (r < 0) {
            return sb_fail_errno(err, -r, "load the kernel module '%s'", path);
        }
    }
    return r < 0 ? sb_fail_errno(err, -r, "read '%s'", list) : 0;
}

pid_t modules_load_beside(const char *list, struct sb_err **err)
{
    pid_t pid = fork();
    if (pid == 0) {
        SB_CLEANUP(err) struct sb_err *why = NULL;
        int r = modules_load(list, &why);
        if (r < 0) {
            log_line(3, why->message);
        }
        _exit(r < 0);
    }
    return pid < 0 ? sb_fail_errno(err, errno, "load the kernel's modules") : pid;
}

/* The kernel starts its helper in the initramfs, where there are no modules beyond those of the
 * list. */
void modules_serve(void)
{
    SB_CLEANUP(fd) int fd = open("/proc/sys/kernel/modprobe", O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, GUEST_PROGRAM, strlen(GUEST_PROGRAM));
    (void)n; /* a kernel that has everything built in has no such file */
}

int modules_help(char **argv)
{
    static const char modprobe[] = "/sbin/modprobe";
    if (chroot(GUEST_ROOT) == 0 && chdir("/") == 0) {
        argv[0] = (char *)(unsigned long)modprobe;
        execv(modprobe, argv);
    }
    return 1;
}
