/* SPDX-License-Identifier: Apache-2.0
 * One clone into new namespaces, a new root, and the first program in it: sbx-init, or, for a
 * virtual machine, sbx-vm, which relays to the sbx-init of its guest. */
#pragma once

#include "base/msg.h"
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

/* Clones the sandbox's first process, which begins with its network; it dies with the calling
 * thread's process. */
int ns_start(const struct ns_spec *spec, struct ns_sandbox *ret, struct sb_err **err);
/* Gives it the mounts that it needs next.  Should this or the next fail, it is the caller's to kill
 * and reap. */
int ns_provide(const struct ns_spec *spec, const struct ns_sandbox *sandbox, struct sb_err **err);
/* {"event":"failed","error":TEXT,"hint":TEXT,"code":n}: what it could not do before it became what
 * it is, as an error of ours. */
int ns_take_failure(const json_t *message, struct sb_err **err);
/* Returns when it has network and root and is about to become sbx-init; the listeners are ours. */
int ns_await_network(struct ns_sandbox *sandbox, struct sb_err **err);
