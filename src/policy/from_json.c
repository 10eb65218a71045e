/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/store.h"

int policy_from_json(const json_t *rules, struct policy **ret, struct sb_err **err)
{
    if (!json_is_array(rules)) {
        return sb_fail(err, SB_EPROTO, "policy rules are not a list");
    }
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        const char *text = json_string_value(json_object_get(rule, "text"));
        const char *origin = json_string_value(json_object_get(rule, "origin"));
        const char *id = json_string_value(json_object_get(rule, "id"));
        if (!text || !origin) {
            return sb_fail(err, SB_EPROTO, "policy rule %zu has no text or no origin", i + 1);
        }
        int r = policy_add(policy, text, origin, id, err);
        if (r < 0) {
            return sb_wrap(err, r, "rule %zu of %s", i + 1, origin);
        }
    }
    *ret = sb_steal(&policy);
    return 0;
}
