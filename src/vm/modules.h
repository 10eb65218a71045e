/* SPDX-License-Identifier: Apache-2.0
 * Which of a kernel's modules are needed, with what they depend on, in the order to load them.
 *
 * What only makes another faster (modules.softdep) is left out.  Works on the texts of modules.dep
 * and modules.builtin (depmod(8)) and touches no file. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

enum { MODULES_MAX = 256 }; /* of one initramfs */

struct module_list {
    char *paths[MODULES_MAX]; /* as modules.dep names them, the first is loaded first */
    size_t count;
};

void module_list_done(struct module_list *list);
static inline void sb_cleanup_module_list(struct module_list *list)
{
    module_list_done(list);
}

/* Adds the module `name` and all it needs to `list`, unless it is there already or is built into
 * the kernel.  '-' and '_' are the same in a name.  SB_ENOTFOUND when the kernel has no such
 * module. */
int modules_add(struct module_list *list, const char *dep, const char *builtin, const char *name,
                struct sb_err **err);
/* The name of the module in this file: "kernel/drivers/char/hw_random/virtio-rng.ko" is
 * "virtio_rng".  The caller frees it. */
char *module_name(const char *path, size_t len);
