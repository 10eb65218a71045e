/* SPDX-License-Identifier: Apache-2.0
 * A kernel's image as a guest boots it.
 *
 * Distributions pack their kernels (a bzImage), so each guest would spend a part of its boot on
 * unpacking, and QEMU keep a copy of what is packed.  What is in it is an ELF image that QEMU can
 * boot as it is, and takes from the page cache, one for all machines. */
#pragma once

#include "base/err.h"
#include "vm/kernel.h"

/* Makes of a kernel whose image is a bzImage one whose `image` and `fd` are the ELF image that is
 * packed in it, kept in $STATE/vm; leaves it as it is where that cannot be done. */
void vm_image_unpack(struct vm_kernel *kernel);
/* The package that lacks for that; else NULL. */
const char *vm_image_missing(const struct vm_kernel *kernel);
