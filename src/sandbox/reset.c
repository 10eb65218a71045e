/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/reset.h"

#include <string.h>
#include <unistd.h>

#include "base/paths.h"
#include "sandbox/idmap.h"
#include "sandbox/trash.h"

static int remove_names(const char *dir, const char *const *names, struct sb_err **err)
{
    int r = 0;
    for (; r == 0 && *names; names++) {
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", dir, *names);
        r = idmap_remove_tree(path, err);
    }
    return r;
}

int reset_all(bool keep_secrets, struct sb_err **err)
{
    static const char *const of_state[] = {"sandboxes", "templates",  "vm", "log",
                                           "log-heads", "slots.lock", NULL};
    static const char *const of_config[] = {"policy", "settings", NULL};
    static const char *const of_secrets[] = {"secrets", NULL};
    SB_CLEANUP(free) char *sandboxes = NULL;
    SB_CLEANUP(free) char *state = NULL;
    SB_CLEANUP(free) char *runtime = NULL;
    SB_CLEANUP(free) char *config = NULL;
    int r = sb_path_state_sub("sandboxes", &sandboxes, err);
    r = r < 0 ? r : sb_path_state(&state, err);
    r = r < 0 ? r : sb_path_runtime(&runtime, err);
    r = r < 0 ? r : sb_path_config(&config, err);
    r = r < 0 ? r : trash_sweep(sandboxes, true, err);
    r = r < 0 ? r : remove_names(state, of_state, err);
    r = r < 0 ? r : remove_names(config, of_config, err);
    if (r == 0 && !keep_secrets) {
        r = remove_names(config, of_secrets, err);
    }
    const char *const dirs[] = {runtime, state, config};
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(dirs); i++) {
        rmdir(dirs[i]);
    }
    return r;
}
