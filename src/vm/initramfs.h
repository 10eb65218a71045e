/* SPDX-License-Identifier: Apache-2.0
 * The guest's first file system: our programs and the modules that its kernel needs to find the
 * rest.
 *
 * Made once and kept in $STATE/vm, named by a hash of what it was made of.  What is in it:
 *   the programs, by the names that the caller gives (init is the first to run)
 *   modules.*      a line for each module's file, "/modules/virtio_mmio.ko", the first to load
 *                  first; empty for a kernel that has none.  One that finds no device may refuse.
 *   modules/       those files
 *   dev/ proc/ sys/ run/ mnt/  empty directories */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "vm/kernel.h"

/* Which modules to load, one path a line, in the order that a guest needs them: */
#define INITRAMFS_CORE  "modules.core"  /* what all others need */
#define INITRAMFS_LINK  "modules.link"  /* to hear from the host */
#define INITRAMFS_REST  "modules.rest"  /* to be a sandbox, which can be loaded beside the latter */
#define INITRAMFS_LATER "modules.later" /* what no command waits for */

struct initramfs_program {
    const char *name; /* in the archive, without a slash: "init" */
    const char *path; /* on the host */
};

/* `kind` ("guest", "probe") tells one use from another: making one removes older ones of its kind.
 * *ret_fd is open for reading, and stays good when the file is replaced; *ret_path (may be NULL)
 * is where it is. */
int initramfs_take(const char *kind, const struct vm_kernel *kernel,
                   const struct initramfs_program *programs, size_t nprograms, int *ret_fd,
                   char **ret_path, struct sb_err **err);
/* The one of its kind that was made last, or NULL; the caller frees the path. */
char *initramfs_latest(const char *kind);
