/* SPDX-License-Identifier: Apache-2.0
 * Files that QEMU gets as descriptors and opens again, as its own user, by /proc/self/fd. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Makes of *fd, a regular file open for reading and called `path` in messages, one that QEMU's user
 * can read and cannot write: where the file itself is not so, a sealed copy in memory takes its
 * place.  `as_caller`: QEMU has no user of its own, but runs as the one who calls. */
int vm_hand_out(int *fd, const char *path, bool as_caller, struct sb_err **err);
