/* SPDX-License-Identifier: Apache-2.0
 * Limits of a sandbox: each by a cgroup (v2, else v1) where one that we may use has the controller,
 * else by a resource limit, which is weaker: it holds for each process or user id alone. */
#pragma once

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/err.h"

struct limits {
    double cpus;           /* 0: all */
    uint64_t memory_bytes; /* 0: no limit */
    uint64_t pids;         /* 0: no limit */
};

struct cgroup;

/* Makes groups for sandbox `name`, and first notes the path of each as a line of the file `record`,
 * so that whoever comes after a killed supervisor can remove them.  Never fails for want of
 * cgroups.
 */
struct cgroup *cgroup_create(const char *name, const struct limits *limits, int record);
/* Removes the groups that a killed supervisor left behind, by its record, whose other lines do not
 * begin with '/'. */
void cgroup_remove_recorded(int record);
/* The directory to clone the sandbox into (clone3(2), CLONE_INTO_CGROUP); -1: it joins by itself.
 */
int cgroup_clone_fd(const struct cgroup *cgroup);
/* That group was refused: an ordinary user may make a group and yet not be let in. */
void cgroup_give_up_clone(struct cgroup *cgroup);
/* Around the clone of the first process by an ordinary user: while no group holds the number of
 * processes, all sandboxes together may take half of what he may have (a user namespace keeps its
 * maker's limit).  Returns the limit that was before, for cgroup_unshare_processes(). */
rlim_t cgroup_share_processes(const struct cgroup *cgroup);
void cgroup_unshare_processes(rlim_t before);
/* In the sandbox's first process, while it has one thread: enters the groups. */
int cgroup_join(const struct cgroup *cgroup, struct sb_err **err);
/* Last before that process runs anything of the sandbox: sets resource limits for what no group
 * holds. */
int cgroup_limit_process(const struct cgroup *cgroup, struct sb_err **err);
/* Once the first process is cloned: "cgroup v2", "cgroup v1" or "cgroup v1 and v2" when groups hold
 * every limit, "rlimits" when they hold none, "cgroups in part" else. */
const char *cgroup_kind(const struct cgroup *cgroup);
/* Then, too: what the user must know of limits that no group holds, or NULL; the caller frees it.
 */
char *cgroup_shortfall(const struct cgroup *cgroup);
/* Removes the groups (empty by now) and frees. */
void cgroup_destroy(struct cgroup *cgroup);
