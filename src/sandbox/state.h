/* SPDX-License-Identifier: Apache-2.0
 * sandbox.json: what was asked for, the plan, and how far it came ("creating" or "ready"). */
#pragma once

#include <jansson.h>

#include "base/err.h"

/* SB_ENOTFOUND when there is none. */
int state_load(const char *name, json_t **ret, struct sb_err **err);
int state_save(const char *name, const json_t *config, struct sb_err **err);
