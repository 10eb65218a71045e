/* SPDX-License-Identifier: Apache-2.0
 * The variables of -e/--env and --env-file. */
#pragma once

#include <jansson.h>

#include "base/msg.h"

#include "cli/cli.h"

/* Object NAME -> value: files in order, then -e; a bare NAME takes the caller's value.  Once a
 * command: a file may be a pipe, which is empty afterwards. */
int cli_env_words(const struct cli_args *args, json_t **ret, struct sb_err **err);
