/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/handout.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/msg.h"

/* Some distributions let only root read their kernels.  And where QEMU runs as the user who owns
 * the file, as it does for one without subordinate ids, one that was taken over could write what
 * all later machines of his boot. */
static bool fits(const struct stat *st, bool as_caller)
{
    return (st->st_mode & S_IROTH) && !(as_caller && st->st_uid == geteuid());
}

int vm_hand_out(int *fd, const char *path, bool as_caller, struct sb_err **err)
{
    struct stat st;
    if (fstat(*fd, &st) < 0) {
        return sb_fail_errno(err, errno, "'%s'", path);
    }
    if (fits(&st, as_caller)) {
        return 0;
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, *fd, 0);
    if (map == MAP_FAILED) {
        return sb_fail_errno(err, errno, "read '%s'", path);
    }
    int copy = sb_memfd("sbx-file", map, (size_t)st.st_size);
    munmap(map, (size_t)st.st_size);
    if (copy < 0) {
        return sb_fail_errno(err, -copy, "copy '%s' into memory", path);
    }
    close(*fd);
    *fd = copy;
    return 0;
}
