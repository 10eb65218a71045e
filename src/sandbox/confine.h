/* SPDX-License-Identifier: Apache-2.0
 * What a process inside may still ask of the kernel: capabilities and system calls. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Drops every capability that a container does not need from the bounding set. */
int confine_capabilities(struct sb_err **err);
/* With a single id, which is not root's, the next program would lose all capabilities, and may not
 * change its groups.  What runs a machine drops both by itself, and ends when it cannot. */
int confine_single_machine(struct sb_err **err);
/* The kernel counts queued signals, message queues and file watches by user, and a sandbox of an
 * ordinary user is that user.  The first is for the process that makes the user namespace, whose
 * limits are those of all in it together, and then for the first process in it, for each user id:
 * so one sandbox leaves half to the user, and a quarter to the next sandbox.  The second, for that
 * first process, leaves half of the watches. */
void confine_halve_limits(void);
int confine_halve_watches(struct sb_err **err);
/* Where the host has crashes handled by a program, which would run as root outside with what the
 * sandbox dumps, nothing dumps; else a dump is a file in the sandbox, as usual. */
int confine_core_dumps(struct sb_err **err);
/* Installs the system call filter of a sandbox, or of what runs a machine (filter/sandbox.c), in
 * this process, for good.  It needs CAP_SYS_ADMIN in its user namespace: no_new_privs would break
 * sudo inside. */
int confine_calls(bool for_machine, struct sb_err **err);
