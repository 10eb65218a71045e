/* SPDX-License-Identifier: Apache-2.0
 * The guest kernel: which one, and what belongs to it.
 *
 * In this order: the file that SBX_VM_KERNEL names; the one that `sbx vm kernel --build` made, in
 * $STATE/vm; one that was installed with sbx, in share/sbx; one of the system's, in /boot.  A file
 * that was named and cannot be used is an error, not a reason to take another. */
#pragma once

#include <stdint.h>

#include "base/err.h"

enum vm_kernel_source { VM_KERNEL_NAMED, VM_KERNEL_BUILT, VM_KERNEL_INSTALLED, VM_KERNEL_SYSTEM };

struct vm_kernel {
    enum vm_kernel_source source;
    char *image;   /* path of the bzImage, or of an uncompressed ELF image with a PVH entry */
    char *version; /* what `uname -r` says in the guest */
    char *modules; /* the directory that holds modules.dep; NULL: nothing of it is a module.  A
                    * guest that sees the host's /usr has it at the same place, so that modprobe
                    * works there */
    int fd;        /* the image, open for reading */
    uint64_t size;
};

/* SB_ENOTFOUND, with a hint what to install or run, when there is none. */
int vm_kernel_find(struct vm_kernel *ret, struct sb_err **err);
/* This file, whatever it is called. */
int vm_kernel_open(const char *image, struct vm_kernel *ret, struct sb_err **err);
void vm_kernel_done(struct vm_kernel *kernel);
static inline void sb_cleanup_vm_kernel(struct vm_kernel *kernel)
{
    vm_kernel_done(kernel);
}
/* "named by SBX_VM_KERNEL", "built by sbx" ...: for people. */
const char *vm_kernel_source_text(enum vm_kernel_source source);
