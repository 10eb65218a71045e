/* SPDX-License-Identifier: Apache-2.0
 * --isolation, and what holds without it: SBX_ISOLATION, the setting, "auto". */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

/* Refuses a word that is no isolation, and looks at nothing else. */
int cli_isolation_check(const struct cli_args *args, struct sb_err **err);
/* Decides what a new sandbox is, writes it into its configuration, and tells what the user must
 * know of it. */
int cli_isolation_words(const struct cli_args *args, json_t *config, struct sb_err **err);
