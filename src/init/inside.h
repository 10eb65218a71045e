/* SPDX-License-Identifier: Apache-2.0
 * Directories of a root that was the sandbox's own to change.
 *
 * Paths there are walked only by a process that has moved into that root, so that every link ends
 * inside it, and never through a magic link, which could end at a descriptor that the process still
 * has from outside. */
#pragma once

#include <stdbool.h>

/* A descriptor (O_PATH) of the directory at the absolute `path`, or -errno; missing ones are made,
 * 0755, and belong to whom the directory above belongs.  *ret_made (may be NULL): the last one was
 * missing. */
int inside_make_dir(const char *path, bool *ret_made);
