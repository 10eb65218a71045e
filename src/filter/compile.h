/* SPDX-License-Identifier: Apache-2.0
 * System call filters are compiled when sbx is built: libseccomp takes milliseconds for what then
 * is the same few kilobytes at every start.  Each function makes one filter, NULL when it cannot.
 */
#pragma once

#include <seccomp.h>

scmp_filter_ctx filter_sandbox_calls(void);
scmp_filter_ctx filter_machine_calls(void);
scmp_filter_ctx filter_machine_groups(void);
scmp_filter_ctx filter_sandbox_requests(void);
scmp_filter_ctx filter_proxy(void);
scmp_filter_ctx filter_monitor(void);
