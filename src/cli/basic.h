/* SPDX-License-Identifier: Apache-2.0
 * The commands that need no file of declarations of their own, for the table in commands.c. */
#pragma once

#include "cli/cli.h"

cli_fn cmd_help, cmd_version, cmd_completion;
cli_fn cmd_ls, cmd_start, cmd_stop, cmd_rm, cmd_reset;
cli_fn cmd_kit_validate, cmd_kit_inspect, cmd_kit_log;

extern const struct cli_flag cli_flags_json[];
extern const struct cli_flag cli_flags_ls[];
extern const struct cli_flag cli_flags_rm[];
extern const struct cli_flag cli_flags_reset[];
