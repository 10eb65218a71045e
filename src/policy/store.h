/* SPDX-License-Identifier: Apache-2.0
 * The rules that people wrote, on disk: $CONFIG/policy/global.rules and NAME.rules.
 *
 * A line is a rule, "preset NAME" (global file only), a comment (#) or empty. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "policy/policy.h"

/* Appends the rules that hold for `sandbox` (NULL: global ones only) to `rules`, a JSON array of
 * {"text","id","origin"}: preset, then global, then the sandbox's own. Without a preset line the preset is balanced; *ret_defaulted (may
 * be NULL) tells so. */
int policy_store_rules(const char *sandbox, json_t *rules, bool *ret_defaulted,
                       struct sb_err **err);
/* Builds a policy from such an array (the proxy and `policy check` use this). */
int policy_from_json(const json_t *rules, struct policy **ret, struct sb_err **err);
int policy_store_add(const char *sandbox, bool allow, const char *pattern, char **ret_id,
                     struct sb_err **err);
/* Removes by id or by pattern text; *ret_removed counts. */
int policy_store_remove(const char *sandbox, const char *id_or_text, size_t *ret_removed,
                        struct sb_err **err);
int policy_store_set_preset(const char *preset, struct sb_err **err);
/* Forgets a sandbox's own rules (sandbox removed). */
int policy_store_forget(const char *sandbox, struct sb_err **err);
