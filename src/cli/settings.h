/* SPDX-License-Identifier: Apache-2.0
 * sbx settings ...: for the table in commands.c. */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

cli_fn cmd_settings_ls, cmd_settings_get, cmd_settings_set, cmd_settings_rm;

/* settings_ca.c: the certificates of a file, as SETTING_EXTRA_CA keeps them, and what they are. */
int settings_read_ca(const char *path, json_t **ret, struct sb_err **err);
char *settings_show_ca(const json_t *stored);
