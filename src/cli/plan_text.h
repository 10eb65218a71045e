/* SPDX-License-Identifier: Apache-2.0
 * What --dry-run shows: the kits' plan, and what the words say of the sandbox beside it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* The plan of a configuration (sandbox.json) with name, workspace, mounts, publish, limits,
 * isolation, env_names (values may be secrets), and command when an agent is run with `argv`, which
 * may be NULL.  `exists`: the sandbox is there, and made with it. */
json_t *cli_whole_plan(const json_t *config, const char *const *argv, bool exists);
/* Prints that to stdout, a line for each thing. */
void cli_print_plan(const json_t *whole);
