/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/isolation_words.h"

#include "base/msg.h"
#include "sandbox/state.h"
#include "settings/store.h"
#include "vm/isolation.h"
#include "vm/vm.h"

struct wish {
    const char *text, *origin;
};

/* What the words, else the environment, else the setting ask for; `settings` must outlive it. */
static int wanted_isolation(const struct cli_args *args, json_t **settings, struct wish *ret,
                            struct sb_err **err)
{
    const char *given = cli_string(args, "isolation");
    const char *variable = secure_getenv("SBX_ISOLATION");
    if (given) {
        *ret = (struct wish){given, "--isolation"};
        return 0;
    }
    if (variable && *variable) {
        *ret = (struct wish){variable, "SBX_ISOLATION"};
        return 0;
    }
    int r = settings_load(settings, err);
    const char *set = sb_json_str(*settings, SETTING_ISOLATION);
    *ret = (struct wish){set ? set : "auto", "the setting isolation"};
    return r;
}

int cli_isolation_words(const struct cli_args *args, json_t *config, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *settings = NULL;
    struct wish wish;
    struct isolation isolation = {0};
    int r = wanted_isolation(args, &settings, &wish, err);
    r = r < 0 ? r : isolation_choose(wish.text, wish.origin, &isolation, err);
    if (r < 0) {
        return r;
    }
    json_object_set_new(config, "isolation", json_string(isolation.chosen));
    json_object_set_new(config, "isolation_requested", json_string(isolation.requested));
    if (isolation.note) {
        fprintf(stderr, "%s\n", isolation.note);
    }
    free(isolation.note);
    /* A guest's kernel sets up all of its memory when it starts. */
    json_int_t memory = sb_json_int(config, "memory_bytes", 0);
    if (state_is_vm(config) && !cli_string(args, "memory") && memory > VM_MEMORY_DEFAULT) {
        json_object_set_new(config, "memory_bytes", json_integer(VM_MEMORY_DEFAULT));
    }
    return 0;
}
