/* SPDX-License-Identifier: Apache-2.0
 * Limits of a sandbox: cgroup v2 where a writable hierarchy has the controllers, else v1, else
 * resource limits of the processes. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct limits {
    double cpus;           /* 0: all */
    uint64_t memory_bytes; /* 0: no limit */
    uint64_t pids;         /* 0: no limit */
};

struct cgroup;

/* Makes groups for sandbox `name`, and notes their paths in the file `record`, so that whoever
 * comes after a killed supervisor can remove them; removes those that the record names already.
 * Never fails for want of cgroups: cgroup_kind() then says "rlimits". */
struct cgroup *cgroup_create(const char *name, const struct limits *limits, const char *record);
/* Removes the groups that a killed supervisor left behind, by its record; no record is no work. */
void cgroup_remove_recorded(const char *record);
const char *cgroup_kind(const struct cgroup *cgroup); /* "cgroup v2", "cgroup v1", "rlimits" */
/* The directory to clone the sandbox into (clone3(2), CLONE_INTO_CGROUP); -1: it joins by itself.
 */
int cgroup_clone_fd(const struct cgroup *cgroup);
/* In the sandbox's first process, while it has one thread and before it runs anything of the
 * sandbox: enters the groups, or sets resource limits where there are none. */
int cgroup_join(const struct cgroup *cgroup, struct sb_err **err);
/* Removes the groups (empty by now) and frees. */
void cgroup_destroy(struct cgroup *cgroup);
