/* SPDX-License-Identifier: Apache-2.0
 * A plan as people read it (--dry-run). */
#pragma once

#include <jansson.h>

/* Prints what kits make of a sandbox to stdout, a line for each thing. */
void cli_print_plan(const json_t *plan);
