/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpio.h"

#include <errno.h>
#include <stdint.h>
#include <sys/stat.h>

/* Names and contents begin at multiples of 4, counted from the archive's first byte. */
static void pad(struct sb_buf *out)
{
    static const char zeros[4];
    sb_buf_append(out, zeros, -out->len & 3);
}

static void entry(struct cpio *cpio, const char *path, mode_t mode, const void *data, size_t len)
{
    if (len > UINT32_MAX) {
        cpio->out->overflow = true;
        return;
    }
    unsigned links = S_ISDIR(mode) ? 2 : 1;
    /* magic; inode, mode, uid, gid, links, mtime, size, device and special device, length of the
     * name with its NUL, check */
    sb_buf_printf(cpio->out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
                  ++cpio->next_inode, mode, 0U, 0U, links, 0U, (unsigned)len, 0U, 0U, 0U, 0U,
                  (unsigned)strlen(path) + 1, 0U);
    sb_buf_append(cpio->out, path, strlen(path) + 1);
    pad(cpio->out);
    sb_buf_append(cpio->out, data, len);
    pad(cpio->out);
}

void cpio_dir(struct cpio *cpio, const char *path, mode_t permissions)
{
    entry(cpio, path, S_IFDIR | permissions, "", 0);
}

void cpio_file(struct cpio *cpio, const char *path, mode_t permissions, const void *data,
               size_t len)
{
    entry(cpio, path, S_IFREG | permissions, data, len);
}

int cpio_finish(struct cpio *cpio)
{
    entry(cpio, "TRAILER!!!", 0, "", 0);
    return cpio->out->overflow ? -EFBIG : 0;
}
