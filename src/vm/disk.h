/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's own disk: a sparse file with an ext4 file system that only the guest mounts.  It
 * grows with what is written and shrinks again with what is removed (discard). */
#pragma once

#include "base/err.h"

/* Opens the disk at `path` for reading and writing, made when missing; `size` is what it may grow
 * to, in bytes.  A descriptor or a failure. */
int disk_open(const char *path, unsigned long long size, struct sb_err **err);
