/* SPDX-License-Identifier: Apache-2.0
 * What a process inside may still ask of the kernel: capabilities and system calls. */
#pragma once

#include "base/err.h"

/* Drops every capability that a container does not need from the bounding set. */
int confine_capabilities(struct sb_err **err);
/* Installs the system call filter (filter/sandbox.c) in this process, for good.  It needs
 * CAP_SYS_ADMIN in its user namespace: no_new_privs would break sudo inside. */
int confine_calls(struct sb_err **err);
