/* SPDX-License-Identifier: Apache-2.0
 * Where sbx keeps things on the host, by the XDG base directory rules:
 *   config   $XDG_CONFIG_HOME/sbx   policy and secrets, made by people
 *   state    $XDG_STATE_HOME/sbx    sandboxes and their logs
 *   runtime  $XDG_RUNTIME_DIR/sbx   sockets of running sandboxes (state/run without it)
 * $SBX_HOME, an absolute path, holds all three below it when it is set (tests, several
 * installations). */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Each makes the directory (0700) when missing and returns its absolute path; the caller frees. */
int sb_path_config(char **ret_path, struct sb_err **err);
int sb_path_state(char **ret_path, struct sb_err **err);
int sb_path_runtime(char **ret_path, struct sb_err **err);
/* Same, for a subdirectory such as "sandboxes". */
int sb_path_state_sub(const char *sub, char **ret_path, struct sb_err **err);
/* The folder `name` of the configuration, made when missing, for its owner alone: a descriptor, or
 * a negative code. */
int sb_path_private_folder(const char *name, struct sb_err **err);
/* The directory of our own executable: what belongs to sbx lies beside it or at a place from there.
 */
int sb_path_own(char **ret_path, struct sb_err **err);
/* A helper program: beside our own executable, else in ../libexec/sbx. */
int sb_path_helper(const char *program, char **ret_path, struct sb_err **err);
/* Whether `path` is `top` or lies below it: absolute paths without "." and "..", by their text. */
bool sb_path_within(const char *path, const char *top);
/* Home directory of the calling user (not $HOME of a sudo caller's choosing when it is unset). */
const char *sb_home(void);
