/* SPDX-License-Identifier: Apache-2.0
 * Two programs have this name: QEMU's own in C (until 7.2), and its successor in Rust.  Both get
 * the directory as their root, and filter their own system calls. */
#include "vm/share.h"

#include <stdlib.h>
#include <unistd.h>

enum { WORDS_MAX = 16 };

static char **in_c(int listener, const char *directory)
{
    char **argv = sb_xcalloc(WORDS_MAX, sizeof(*argv));
    size_t n = 0;
    argv[n++] = sb_xstrdup("virtiofsd");
    argv[n++] = sb_xasprintf("--fd=%d", listener);
    argv[n++] = sb_xstrdup("-o");
    argv[n++] = sb_xasprintf("source=%s,sandbox=chroot,announce_submounts,cache=auto,xattr,"
                             "no_posix_lock,no_flock,log_level=err",
                             directory);
    argv[n++] = sb_xstrdup("--thread-pool-size=0");
    return argv;
}

static char **in_rust(int listener, const char *directory)
{
    char **argv = sb_xcalloc(WORDS_MAX, sizeof(*argv));
    size_t n = 0;
    argv[n++] = sb_xstrdup("virtiofsd");
    argv[n++] = sb_xasprintf("--fd=%d", listener);
    argv[n++] = sb_xasprintf("--shared-dir=%s", directory);
    argv[n++] = sb_xstrdup("--sandbox=chroot");
    argv[n++] = sb_xstrdup("--announce-submounts");
    argv[n++] = sb_xstrdup("--cache=auto");
    argv[n++] = sb_xstrdup("--xattr");
    argv[n++] = sb_xstrdup("--log-level=error");
    return argv;
}

int share_argv(int listener, const char *directory, char **ret_program, char ***ret_argv,
               struct sb_err **err)
{
    static const struct {
        const char *path;
        char **(*argv)(int listener, const char *directory);
    } known[] = {{"/usr/lib/qemu/virtiofsd", in_c}, {"/usr/libexec/virtiofsd", in_rust}};
    for (size_t i = 0; i < SB_ARRAY_LEN(known); i++) {
        if (access(known[i].path, X_OK) == 0) {
            *ret_program = sb_xstrdup(known[i].path);
            *ret_argv = known[i].argv(listener, directory);
            return 0;
        }
    }
    sb_fail(err, SB_ESTART, "virtiofsd is not installed");
    sb_hint(err, "install the package qemu-system-common or virtiofsd");
    return SB_ESTART;
}

void share_free_argv(char **argv)
{
    for (char **word = argv; *word; word++) {
        free(*word);
    }
    free(argv);
}
