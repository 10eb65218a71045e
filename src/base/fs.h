/* SPDX-License-Identifier: Apache-2.0
 * Files below a directory descriptor.
 *
 * Host-side code never follows a path that a sandbox could have changed: these functions resolve
 * with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Opens `path` below `dirfd` without following any link.  Returns a descriptor or -errno. */
int sb_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* Makes every missing directory of an absolute or dirfd-relative path. 0 or -errno.  Only for paths
 * that no sandbox can change. */
int sb_mkdir_p(int dirfd, const char *path, mode_t mode);
/* Reads a whole regular file of at most `buf->max` bytes; `buf` must be initialised. */
int sb_read_file(int dirfd, const char *path, struct sb_buf *buf, struct sb_err **err);
int sb_read_fd(int fd, struct sb_buf *buf);
/* Writes a file so that a reader sees the old or the new content, never a part. */
int sb_write_file_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
                         struct sb_err **err);
/* Writes everything, through short writes and EINTR.  0 or -errno. */
int sb_write_all(int fd, const void *data, size_t len);
/* Removes `name` below `dirfd` with all it holds; never follows a link; missing is success.
 * 0 or -errno of the first failure. */
int sb_remove_tree(int dirfd, const char *name);
