/* SPDX-License-Identifier: Apache-2.0
 * Files below a directory descriptor.
 *
 * Host-side code never follows a path that a sandbox could have changed: such a path is resolved by
 * sb_openat2() with RESOLVE_NO_SYMLINKS. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Opens an existing file by openat2(2), `resolve` being its RESOLVE_ flags.  Returns a descriptor
 * (close-on-exec) or -errno; -ELOOP when a forbidden link was met. */
int sb_openat2(int dirfd, const char *path, int flags, uint64_t resolve);
/* Makes every missing directory of an absolute or dirfd-relative path. 0 or -errno.  Only for paths
 * that no sandbox can change. */
int sb_mkdir_p(int dirfd, const char *path, mode_t mode);
/* Reads a whole regular file of at most `buf->max` bytes; `buf` must be initialised. */
int sb_read_file(int dirfd, const char *path, struct sb_buf *buf, struct sb_err **err);
int sb_read_fd(int fd, struct sb_buf *buf);
/* The same for a path that had no link in it when it was resolved, and that a sandbox may have
 * changed since: a link is refused. */
int sb_read_plain_file(const char *path, struct sb_buf *buf, struct sb_err **err);
/* Writes a file so that a reader sees the old or the new content, never a part. */
int sb_write_file_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
                         struct sb_err **err);
/* Writes everything, through short writes and EINTR.  0 or -errno. */
int sb_write_all(int fd, const void *data, size_t len);
/* Removes `name` below `dirfd` with all it holds; never follows a link; missing is success.
 * 0 or -errno of the first failure. */
int sb_remove_tree(int dirfd, const char *name);
