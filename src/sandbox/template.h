/* SPDX-License-Identifier: Apache-2.0
 * The `host` template: what of the host's own userland a sandbox sees besides /usr.
 *
 * A directory tree made once and shared by all sandboxes as their lowest layer: an allow-list of
 * /etc (world-readable files only), links such as /bin, empty directories, generated passwd, group,
 * nsswitch.conf, resolv.conf and sudoers, agent's home, and our sudo. It is rebuilt under another
 * name when the host's files change. */
#pragma once

#include "sandbox/idmap.h"

/* $STATE/templates/host-MODE-FINGERPRINT; *ret_exists tells whether it is complete. */
int template_path(enum idmap_mode mode, char **ret_path, bool *ret_exists, struct sb_err **err);
/* Builds it at `path` through a temporary directory.  Runs with the ids that shall own the files:
 * real root in root mode, the sandbox's root or agent otherwise.  `init_fd` is sbx-init, which is
 * also sudo. */
int template_build(const char *path, int init_fd, enum idmap_mode mode, struct sb_err **err);
/* The same in a child process that has the sandbox's ids (an ordinary user's modes). */
int template_build_as(const struct idmap *map, const char *path, int init_fd, struct sb_err **err);
