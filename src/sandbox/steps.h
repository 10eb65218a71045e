/* SPDX-License-Identifier: Apache-2.0
 * Carrying out a plan in a running sandbox, step by step. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* Runs all steps of a sandbox that is being made, in the plan's order: with its first startup,
 * whose commands meet the workspace before kits' files are in it.  Output is shown unless `quiet`,
 * and kept in NAME.kit.log.  A failing step's error names the kit, the place in its spec.yaml, the
 * command, the exit status and the last lines of its output. */
int steps_create(const char *name, const json_t *config, bool quiet, struct sb_err **err);
/* Its sandbox.json once nobody is making it any more; SB_ESTART when it was never finished. */
int sandbox_load_made(const char *name, json_t **ret, struct sb_err **err);
/* sandbox_start() of one that is complete, then the startup steps when this call started it.  Waits
 * for a command that is still creating it; SB_ENOTFOUND when that one gave up. */
int sandbox_up(const char *name, bool quiet, bool *ret_started, struct sb_err **err);
