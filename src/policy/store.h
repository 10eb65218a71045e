/* SPDX-License-Identifier: Apache-2.0
 * The rules that people wrote, on disk: $CONFIG/policy/global.rules for every sandbox and
 * $CONFIG/policy/sandbox/NAME.rules for one (a folder of their own: a sandbox may be called
 * "global").
 *
 * A line is a rule, a pin ("host NAME ADDRESS[:PORT]"), "preset NAME" (global file only), a comment
 * (#) or empty.  People may edit the files: comments and order stay when a command changes them.
 * Writers hold a lock, readers see the old or the new file.  A file with an error gives no rules at
 * all but an error with its place. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "policy/policy.h"
#include "policy/words.h"

/* Appends the rules that hold for `sandbox` (NULL: global ones only) to `rules`, a JSON array of
 * {"text","id","origin"}: preset, then global, then the sandbox's own. Without a preset line the
 * preset is balanced. */
int policy_store_rules(const char *sandbox, json_t *rules, struct sb_err **err);
/* Whether there is a preset line. */
int policy_store_chosen(bool *ret, struct sb_err **err);
/* Appends the rules of a plan's kits, in the same form. */
int policy_plan_rules(const json_t *plan, json_t *rules, struct sb_err **err);
/* Appends the pins that hold, {"name","address","origin"}: of two for one name the later holds. */
int policy_store_pins(const char *sandbox, json_t *pins, struct sb_err **err);
/* Builds a policy from such rules (the proxy and `policy check` use this). */
int policy_from_json(const json_t *rules, struct policy **ret, struct sb_err **err);
/* Is there an HTTP rule among these canonical ones, so that TLS may have to be terminated? */
bool policy_rules_see_requests(const json_t *rules);

/* Adds canonical rules; one that is there already is success. */
int policy_store_add(const char *sandbox, const json_t *rules, struct sb_err **err);

/* Which rules are meant.  Exactly one of the first three. */
struct policy_selection {
    const char *word; /* an id, a rule, or the pattern of rules */
    const char *id, *resource;
    const char *methods, *path; /* NULL: any; else only rules with exactly these */
};
/* Appends the texts of the rules that were removed to `removed`. */
int policy_store_remove(const char *sandbox, const struct policy_selection *selection,
                        json_t *removed, struct sb_err **err);
/* Pins a name; an older pin of it in the same file is replaced.  Texts as a person wrote them. */
int policy_store_pin(const char *sandbox, const char *name, const char *address,
                     struct sb_err **err);
int policy_store_unpin(const char *sandbox, const char *name, bool *ret_removed,
                       struct sb_err **err);
int policy_store_set_preset(const char *preset, struct sb_err **err);
int policy_store_check_preset(const char *name, struct sb_err **err);
/* Forgets what was written for a sandbox (sandbox removed). */
int policy_store_forget(const char *sandbox, struct sb_err **err);
