/* SPDX-License-Identifier: Apache-2.0
 * --memory, --cpus and --pids. */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

/* Writes "memory_bytes", "cpus" (0: all) and "pids" into a sandbox's configuration: what the words
 * say, or what holds without them. */
int cli_limit_words(const struct cli_args *args, json_t *config, struct sb_err **err);
