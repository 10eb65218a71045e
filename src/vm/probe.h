/* SPDX-License-Identifier: Apache-2.0
 * Does hardware virtualization really work here?
 *
 * /dev/kvm is no proof: there are machines that have it and on which no ordinary kernel boots.  So
 * a guest is booted, once for each state of kernel, QEMU and processor, and what came of it is kept
 * in $STATE/vm/probe.json. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct vm_probe {
    bool works;
    char *reason; /* why not, as a part of a sentence; NULL when it works */
    char *hint;   /* what would help, or NULL */
    char *tried; /* when the guest was booted, "2025-01-31T12:00:00Z"; NULL when that was not needed
                  * to know */
    unsigned ms; /* how long it took */
    bool fresh;  /* not known before this call */
};

/* `again`: not from what is kept.  A failure is of ours, and says nothing about the machine. */
int vm_probe(bool again, struct vm_probe *ret, struct sb_err **err);
void vm_probe_done(struct vm_probe *probe);
static inline void sb_cleanup_vm_probe(struct vm_probe *probe)
{
    vm_probe_done(probe);
}
