/* SPDX-License-Identifier: Apache-2.0
 * `run`, `create` and `exec`. */
#pragma once

#include "cli/cli.h"

cli_fn cmd_run, cmd_create, cmd_exec;
enum { CLI_FLAGS_OF_RUN_ALONE = 2 };
extern const struct cli_flag cli_flags_run[];
extern const struct cli_flag cli_flags_exec[];
