/* SPDX-License-Identifier: Apache-2.0
 * sbx secret ...: for the table in commands.c. */
#pragma once

#include "cli/cli.h"

cli_fn cmd_secret_set, cmd_secret_set_custom, cmd_secret_ls, cmd_secret_rm;

extern const struct cli_flag cli_flags_secret_set[];
extern const struct cli_flag cli_flags_secret_set_custom[];
extern const struct cli_flag cli_flags_secret_ls[];
extern const struct cli_flag cli_flags_secret_rm[];
