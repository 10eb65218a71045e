/* SPDX-License-Identifier: Apache-2.0
 * What the host template consists of: an allow-list of /etc (world-readable files only), links such
 * as /bin, empty directories, generated passwd, group, nsswitch.conf, resolv.conf and sudoers,
 * agent's home, and our sudo. */
#pragma once

#include "sandbox/idmap.h"

/* Builds it at `path`, which does not exist, through `path`.new: by one process at a time, as root
 * or (an ordinary user) in a child that has the sandbox's ids, which then own the files.  `init_fd`
 * is sbx-init, which is also sudo. */
int template_build(const struct idmap *map, const char *path, int init_fd, struct sb_err **err);
