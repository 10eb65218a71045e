/* SPDX-License-Identifier: Apache-2.0
 * The words AGENT [PATH[:ro]...]: which directories a sandbox sees, and which it must not. */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

/* The paths after the first word, or the current directory: *ret_mounts is an array of
 * {"path","read_only","device","inode","uid","gid"}, each with every link resolved and an outer
 * one before its inner ones; *ret_first, owned by the caller, the path that was named first. */
int cli_workspace_words(const struct cli_args *args, json_t **ret_mounts, char **ret_first,
                        struct sb_err **err);
