/* SPDX-License-Identifier: Apache-2.0
 * Agents that are part of the program: kits/NAME/spec.yaml, compiled in. */
#pragma once

#include "spec/kit.h"

/* Loads the built-in agent `name`; SB_ENOTFOUND when there is none. */
int kit_load_builtin(const char *name, struct kit **ret, struct sb_err **err);
/* The names, ended by NULL. */
const char *const *kit_builtin_names(size_t *ret_count);
