/* SPDX-License-Identifier: Apache-2.0
 * Which user ids a sandbox has, and how files of the host are seen under them.
 *
 * The sandbox always lives in its own user namespace:
 *   root   a caller with uid 0 gives each sandbox 65,536 ids of its own; host files are shown
 * through ID-mapped mounts, so nothing inside has an id that means anything outside range  an
 * ordinary user with newuidmap and a range in /etc/subuid: agent is the caller single an ordinary
 * user without: the only id is agent, which is the caller */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

enum idmap_mode { IDMAP_ROOT, IDMAP_RANGE, IDMAP_SINGLE };

enum {
    IDMAP_COUNT = 65536,
    IDMAP_FIRST = 1 << 30, /* above every range that distributions hand out */
    IDMAP_AGENT = 1000,    /* uid and gid of `agent` inside */
};

struct idmap {
    enum idmap_mode mode;
    uid_t base; /* root mode: host id of the sandbox's uid 0 */
};

/* What this caller can have; `slot` picks the ids in root mode.  Root of a user namespace that has
 * not the ids of root mode counts as an ordinary user without a range. */
struct idmap idmap_choose(unsigned slot);
const char *idmap_mode_name(enum idmap_mode mode); /* "root", "range", "single" */
/* The failure to make a user namespace, with what to do about it. */
int idmap_refused(int errnum, struct sb_err **err);
/* Adds the hint about AppArmor to a failure that is its doing: where it restricts, a user namespace
 * can be made, but whatever is done in it fails with `code` -EPERM or -EACCES. */
void idmap_explain_denial(int code, struct sb_err **err);
/* Writes the maps of a process that just entered a new user namespace. */
int idmap_write(const struct idmap *map, pid_t pid, struct sb_err **err);
/* Root mode: descriptors of user namespaces for ID-mapped mounts (mount_setattr(2)), or a negative
 * code.  That of the sandbox's process shows host files with the sandbox's ids; the other, for a
 * workspace, shows files of `owner`:`group` as agent's, and what other ids of the sandbox write
 * there keeps those ids. */
int idmap_userns_of(pid_t pid, struct sb_err **err);
int idmap_workspace_userns(const struct idmap *map, uid_t owner, gid_t group, struct sb_err **err);
/* Removes a directory tree, whatever ids of this caller's sandboxes its files have. */
int idmap_remove_tree(const char *path, struct sb_err **err);
/* Runs `fn`, which returns 0 or -errno, in a child process that has the sandbox's ids, root where
 * there is one; returns the same. */
int idmap_run_as(const struct idmap *map, int (*fn)(void *arg), void *arg, struct sb_err **err);
/* Calls `fn`, which clones into a new user namespace, so that idmap_write can write its map, and so
 * that a sandbox which root makes uses up no limits of root's. */
pid_t idmap_clone(const struct idmap *map, pid_t (*fn)(void *arg), void *arg);
