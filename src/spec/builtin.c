/* SPDX-License-Identifier: Apache-2.0
 * The built-in agents.  builtin_kits.h is made from kits/ by tools/embed.py at build time. */
#include "spec/builtin.h"

static const struct {
    const char *name, *text;
} builtin[] = {
#include "spec/builtin_kits.h"
};

const char *const *kit_builtin_names(size_t *ret_count)
{
    static const char *names[SB_ARRAY_LEN(builtin) + 1];
    for (size_t i = 0; i < SB_ARRAY_LEN(builtin); i++) {
        names[i] = builtin[i].name;
    }
    *ret_count = SB_ARRAY_LEN(builtin);
    return names;
}

int kit_load_builtin(const char *name, struct kit **ret, struct sb_err **err)
{
    for (size_t i = 0; i < SB_ARRAY_LEN(builtin); i++) {
        if (!strcmp(builtin[i].name, name)) {
            SB_CLEANUP(free) char *file = sb_xasprintf("builtin:%s/spec.yaml", name);
            return kit_parse(file, builtin[i].text, strlen(builtin[i].text), ret, err);
        }
    }
    sb_fail(err, SB_ENOTFOUND, "there is no built-in agent \"%s\"", name);
    return SB_ENOTFOUND;
}
