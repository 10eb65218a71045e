/* SPDX-License-Identifier: Apache-2.0
 * Boots a guest that does nothing but say that it has booted (probe_init.c). */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct trial {
    const char *qemu;        /* the program */
    const char *accelerator; /* "kvm"; "tcg" for tests of this file */
    int kernel_fd, initrd_fd;
    unsigned tsc_khz;
    bool acpi; /* how the kernel finds its devices; one that needs no modules finds them without */
    int limit_ms;
};

/* Whether the guest spoke within the limit; QEMU is gone when this returns.  *ret_ms is how long it
 * took; *ret_why (the caller frees it) is why it did not speak, as one line, else NULL.  A failure
 * is of ours. */
int trial_run(const struct trial *trial, bool *ret_spoke, unsigned *ret_ms, char **ret_why,
              struct sb_err **err);
