/* SPDX-License-Identifier: Apache-2.0
 * The secret store on disk: one JSON file for each scope below $CONFIG/secrets (0700/0600).
 *
 *   global.json, sandbox.NAME.json:
 *   { "version": 1, "services": {"github": "value"}, "scrub": {"github": true},
 *     "custom": [{"env","placeholder","value","rules","scrub"}] }
 *
 * A sandbox's file may have "tokens": {"anthropic": {"access","refresh","expires_at"}}, what a
 * sign-in inside it gave.
 *
 * A rule is {"host","mode", and when given "paths","methods","scheme","username","header","format",
 * "in_url","in_body","strip_cookies"}.
 *
 * The prefix keeps a sandbox that is called "global" apart from the global scope. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

enum { SECRET_VALUE_MAX = 64 * 1024, SECRET_STORE_MAX = 8 * 1024 * 1024 };

/* Why bytes cannot be a secret, or NULL when they can.  The text never holds any of them. */
const char *secret_value_problem(const char *value, size_t len);

/* The content of a scope (`sandbox` NULL: global); an empty one when there is no file. */
int secret_store_load(const char *sandbox, json_t **ret, struct sb_err **err);
/* Changes a scope under the store's lock: 1 from `change` saves, 0 leaves the file alone, and a
 * negative code ends the change with *err set. */
typedef int secret_store_change_fn(json_t *content, void *arg, struct sb_err **err);
int secret_store_change(const char *sandbox, secret_store_change_fn *change, void *arg,
                        struct sb_err **err);
int secret_store_remove(const char *sandbox, struct sb_err **err);
/* Array of the names of all sandboxes that have a scope, sorted. */
int secret_store_sandboxes(json_t **ret, struct sb_err **err);
