/* SPDX-License-Identifier: Apache-2.0
 * The parts that a sandbox's virtual machine is started from, gathered on the host before its
 * namespaces exist. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

struct vm {
    int config_fd;                     /* a memfd: the machine and the boot message, JSON */
    int kernel_fd, initrd_fd, disk_fd; /* files */
    int monitor_fd;                    /* the program sbx-vm */
};

struct vm_wish {
    const char *name;                                  /* host name inside */
    const char *disk_path;                             /* made when missing */
    const char *monitor_path, *guest_path, *init_path; /* our programs */
    const json_t *workspaces;                          /* [{"path","read_only"}] */
    const json_t *volumes;                             /* of kits (init/volumes.h), or NULL */
    double cpus;                                       /* 0: those of the host */
    unsigned long long memory_bytes;                   /* of the guest */
    unsigned long long pids;                           /* 0: no limit */
    bool read_only_system; /* the host's /usr cannot be shown as the sandbox's own */
    bool as_caller;        /* QEMU has no user of its own */
};

void vm_init(struct vm *vm);
void vm_done(struct vm *vm);
static inline void sb_cleanup_vm(struct vm *vm)
{
    vm_done(vm);
}
int vm_prepare(const struct vm_wish *wish, struct vm *ret, struct sb_err **err);
/* What a machine gets that was asked for no size, where the host has twice as much. */
static const long long VM_MEMORY_DEFAULT = 4LL << 30;
/* How far a machine may go beyond its guest's memory, in bytes: QEMU (with what it translates,
 * where there is no hardware for that), virtiofsd, sbx-vm, and what the kernel keeps for them.  A
 * guest that uses all of its memory, as a page cache does, must not get QEMU killed: 192 MiB were
 * too few. */
enum { VM_OVERHEAD_BYTES = 512 << 20 };
