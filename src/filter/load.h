/* SPDX-License-Identifier: Apache-2.0
 * Installing a filter that was compiled with sbx. */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

/* In this process, for good; 0 or -errno.  It needs no_new_privs or CAP_SYS_ADMIN in the user
 * namespace (seccomp(2)). */
int filter_load(const struct sock_filter *program, size_t len);
