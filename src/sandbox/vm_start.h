/* SPDX-License-Identifier: Apache-2.0
 * What the supervisor does for a sandbox that is a virtual machine, before its namespaces exist. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "sandbox/cgroup.h"
#include "vm/vm.h"

struct vm_start {
    const char *name, *directory; /* the sandbox's */
    const char *init_path;        /* the sbx-init program */
    const json_t *workspaces;     /* [{"path","read_only"}] */
    const json_t *volumes;        /* of kits (init/volumes.h) */
    bool read_only_system;        /* the caller cannot show the host's files with other ids */
    bool as_caller;               /* ... and has no other ids at all */
};

/* A note for who makes a machine, where his own limits are too low for QEMU; else NULL. */
char *vm_start_shortfall(void);

/* Gathers the machine's parts.  `limits` are those of the guest, and then of the host's processes
 * that run it. */
int vm_start_prepare(const struct vm_start *start, struct limits *limits, struct vm *ret,
                     struct sb_err **err);
