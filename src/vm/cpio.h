/* SPDX-License-Identifier: Apache-2.0
 * Writes a cpio archive in the "newc" form, which the kernel takes as an initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst of Linux).
 *
 * Everything in it belongs to root and has no date: the same input gives the same bytes. */
#pragma once

#include <sys/types.h>

#include "base/buf.h"

struct cpio {
    struct sb_buf *out; /* overflows like any buffer: checked once, at the end */
    unsigned next_inode;
};

/* `path` has no slash at its beginning; the directories it is in come first. */
void cpio_dir(struct cpio *cpio, const char *path, mode_t permissions);
void cpio_file(struct cpio *cpio, const char *path, mode_t permissions, const void *data,
               size_t len);
/* The end mark.  -EFBIG when the archive outgrew its buffer. */
int cpio_finish(struct cpio *cpio);
