/* SPDX-License-Identifier: Apache-2.0
 * What kits want in the root besides files: memory at a path, and directories.
 *
 * Done at every start by whoever has built the sandbox's root and moved into it, while that may
 * still mount (sbx-init no longer may). */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

/* `volumes`: the plan's, [{"path","type","mode","bytes"}], in order.  Those in memory have at most
 * `limit` bytes together, an equal part each (0: what they say, or the kernel's default).  A
 * directory that is there already stays as it is.  Both belong to agent. */
int volumes_mount(const json_t *volumes, uint64_t limit, struct sb_err **err);
