/* SPDX-License-Identifier: Apache-2.0
 * --isolation, and what holds without it: SBX_ISOLATION, the setting, "auto". */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

/* Decides what a new sandbox is, writes it into its configuration, and tells what the user must
 * know of it. */
int cli_isolation_words(const struct cli_args *args, json_t *config, struct sb_err **err);
