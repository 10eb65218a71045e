/* SPDX-License-Identifier: Apache-2.0
 * One clone into new namespaces, a new root, and the first program in it: sbx-init, or, for a
 * virtual machine, sbx-vm, which relays to the sbx-init of its guest. */
#pragma once

#include "sandbox/cgroup.h"
#include "sandbox/net.h"
#include "sandbox/rootfs.h"
#include "vm/vm.h"

struct ns_spec {
    const char *name;      /* host name inside */
    struct rootfs *rootfs; /* borrowed */
    struct cgroup *cgroup;
    int init_fd;         /* the sbx-init program */
    const struct vm *vm; /* NULL: no machine */
    /* Called once the sandbox's first process is at work, which takes a while. */
    int (*meanwhile)(void *arg, struct sb_err **err);
    void *arg;
};

struct ns_sandbox {
    pid_t pid; /* of the first program, in our pid namespace */
    int pidfd;
    int channel; /* to sbx-init */
    int word;    /* of a machine: what sbx-vm says (monitor.h); else -1 */
    /* Its mount namespace: while we have it, the end of process 1 need not wait until all is
     * unmounted, which writes the file system below back to disk. */
    int mounts;
    int listeners[NET_LISTENERS];
};

/* Starts it; returns when the first program is being executed and the listeners are ours.  The
 * sandbox dies with the calling thread's process. */
int ns_start(const struct ns_spec *spec, struct ns_sandbox *ret, struct sb_err **err);
