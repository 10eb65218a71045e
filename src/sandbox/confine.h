/* SPDX-License-Identifier: Apache-2.0
 * What a process inside may still ask of the kernel: capabilities and system calls. */
#pragma once

#include "base/err.h"

/* Drops every capability that a container does not need from the bounding set. */
int confine_capabilities(struct sb_err **err);
/* The system call filter as a BPF program in a descriptor's stead: compiled once per supervisor. */
struct confine_filter;
int confine_filter_new(struct confine_filter **ret, struct sb_err **err);
void confine_filter_free(struct confine_filter *filter);
/* Installs it in this process, for good; needs CAP_SYS_ADMIN in its user namespace or no_new_privs.
 */
int confine_filter_load(const struct confine_filter *filter, struct sb_err **err);
