/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/msg.h"

static const struct form {
    const char *program, *package;
    size_t len;
    unsigned char magic[6];
} forms[] = {
    {"/usr/bin/gzip", "gzip", 2, {0x1f, 0x8b}},
    {"/usr/bin/xz", "xz-utils", 6, {0xfd, '7', 'z', 'X', 'Z', 0}},
    {"/usr/bin/zstd", "zstd", 4, {0x28, 0xb5, 0x2f, 0xfd}},
    {"/usr/bin/lz4", "lz4", 4, {0x02, 0x21, 0x4c, 0x18}}, /* the kernel's, "legacy" */
};

static const struct form *form_of(const void *data, size_t len)
{
    for (size_t i = 0; i < SB_ARRAY_LEN(forms); i++) {
        if (len >= forms[i].len && memcmp(data, forms[i].magic, forms[i].len) == 0) {
            return &forms[i];
        }
    }
    return NULL;
}

bool unpack_wanted(const void *data, size_t len)
{
    return form_of(data, len) != NULL;
}

const char *unpack_missing(const void *data, size_t len)
{
    const struct form *form = form_of(data, len);
    return form && access(form->program, X_OK) < 0 ? form->package : NULL;
}

static int start(const struct form *form, int input, int output, pid_t *ret_pid)
{
    char *argv[] = {(char *)(unsigned long)form->program, (char[]){"-dc"}, NULL};
    char *env[] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int r = posix_spawn(ret_pid, form->program, &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

static int fail_missing(const struct form *form, const char *what, struct sb_err **err)
{
    sb_fail(err, SB_ENOTFOUND, "'%s' is packed, and there is no '%s' to unpack it", what,
            form->program);
    sb_hint(err, "install the package %s", form->package);
    return SB_ENOTFOUND;
}

int unpack(const char *what, const void *data, size_t len, struct sb_buf *out, struct sb_err **err)
{
    const struct form *form = form_of(data, len);
    if (!form) {
        return sb_fail(err, SB_EFAIL, "'%s' is packed in no way that is known", what);
    }
    int fds[2];
    SB_CLEANUP(fd) int input = sb_memfd("sbx-packed", data, len);
    if (input < 0 || pipe2(fds, O_CLOEXEC) < 0) {
        return sb_fail_errno(err, input < 0 ? -input : errno, "unpack '%s'", what);
    }
    SB_CLEANUP(fd) int output = fds[0];
    pid_t pid;
    int r = start(form, input, fds[1], &pid);
    close(fds[1]);
    if (r < 0) {
        return r == -ENOENT ? fail_missing(form, what, err)
                            : sb_fail_errno(err, -r, "run '%s'", form->program);
    }
    int status = 0;
    r = sb_read_fd(output, out);
    if (r < 0) {
        kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return r < 0    ? sb_fail_errno(err, -r, "unpack '%s'", what)
           : status ? sb_fail(err, SB_EFAIL, "'%s' cannot unpack '%s'", form->program, what)
                    : 0;
}
