/* SPDX-License-Identifier: Apache-2.0
 * The rules that people wrote, on disk: $CONFIG/policy/global.rules for every sandbox and
 * $CONFIG/policy/sandbox/NAME.rules for one (a folder of their own: a sandbox may be called
 * "global").
 *
 * A line is a rule, "preset NAME" (global file only), a comment (#) or empty.  People may edit the
 * files: comments and order stay when a command changes them.  Writers hold a lock, readers see the
 * old or the new file.  A file with an error gives no rules at all but an error with its place. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "policy/policy.h"

/* Appends the rules that hold for `sandbox` (NULL: global ones only) to `rules`, a JSON array of
 * {"text","id","origin"}: preset, then global, then the sandbox's own. Without a preset line the
 * preset is balanced; *ret_defaulted (may be NULL) tells so. */
int policy_store_rules(const char *sandbox, json_t *rules, bool *ret_defaulted,
                       struct sb_err **err);
/* Builds a policy from such an array (the proxy and `policy check` use this). */
int policy_from_json(const json_t *rules, struct policy **ret, struct sb_err **err);
/* The canonical rule for a pattern as a person wrote it; the place of an error is within `pattern`.
 */
int policy_canonical_pattern(bool allow, const char *pattern, char **ret, struct sb_err **err);
/* Adding a rule that is there already is success. */
int policy_store_add(const char *sandbox, bool allow, const char *pattern, char **ret_id,
                     struct sb_err **err);
/* Removes by id or by pattern text; *ret_removed counts. */
int policy_store_remove(const char *sandbox, const char *id_or_text, size_t *ret_removed,
                        struct sb_err **err);
int policy_store_set_preset(const char *preset, struct sb_err **err);
/* Forgets a sandbox's own rules (sandbox removed). */
int policy_store_forget(const char *sandbox, struct sb_err **err);
