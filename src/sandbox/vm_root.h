/* SPDX-License-Identifier: Apache-2.0
 * The root file system that a virtual machine's own processes run in: programs of the host, and the
 * trees that the guest is shown. */
#pragma once

#include "sandbox/rootfs.h"

/* In the new mount namespace, with the sandbox's ids and the trees cloned: builds that root, moves
 * into it, and leaves nothing else of the host's tree behind (vm/monitor.h says what lies where).
 */
int vm_root_enter(struct rootfs *rootfs, struct sb_err **err);
