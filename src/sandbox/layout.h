/* SPDX-License-Identifier: Apache-2.0
 * Where one sandbox keeps its things (docs/architecture.md, "State on disk"). */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

enum { SANDBOX_NAME_MAX = 63 }; /* a DNS label: the name is the host name inside */

/* Letters, digits, '-' and '.', starting and ending with a letter or digit. */
bool sandbox_name_valid(const char *name);
/* $STATE/sandboxes, made when it is missing; the caller frees. */
int sandboxes_dir(char **ret_path, struct sb_err **err);
/* $STATE/sandboxes/NAME; not created. */
int sandbox_dir(const char *name, char **ret_path, struct sb_err **err);
/* $RUNTIME/NAME; not created. */
int sandbox_runtime_dir(const char *name, char **ret_path, struct sb_err **err);
/* $STATE/log/NAME<suffix>; the directory is created. */
int sandbox_log_path(const char *name, const char *suffix, char **ret_path, struct sb_err **err);
/* A connected control socket of a running sandbox; -ENOENT/-ECONNREFUSED when it does not run. */
int sandbox_control_connect(const char *runtime_dir);
