/* SPDX-License-Identifier: Apache-2.0
 * Two programs have this name: QEMU's own in C (until 7.2), and its successor in Rust.  Both get
 * the directory as their root, and filter their own system calls. */
#include "vm/share.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

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

char **share_argv(const char *program, int listener, const char *directory)
{
    /* The successor is no part of QEMU. */
    return strstr(program, "/qemu/") ? in_c(listener, directory) : in_rust(listener, directory);
}

void share_free_argv(char **argv)
{
    for (char **word = argv; *word; word++) {
        free(*word);
    }
    free(argv);
}
