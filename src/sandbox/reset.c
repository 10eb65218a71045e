/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/reset.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "base/paths.h"
#include "sandbox/client.h"
#include "sandbox/idmap.h"
#include "sandbox/layout.h"
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

static int remove_sandbox(const char *name, void *arg, struct sb_err **err)
{
    void (**removed)(const char *) = arg;
    SB_CLEANUP(err) struct sb_err *why = NULL;
    int r = sandbox_remove(name, &why);
    if (r == SB_ENOTFOUND) {
        return 0; /* whoever was making it has given up */
    }
    if (r >= 0) {
        (*removed)(name);
    } else if (err) {
        *err = sb_steal(&why);
    }
    return r < 0 ? r : 0;
}

/* What the directory of running sandboxes still holds afterwards has lost its own. */
static int remove_strays(const char *runtime, struct sb_err **err)
{
    DIR *dir = opendir(runtime);
    int r = 0;
    for (const struct dirent *entry; r == 0 && dir && (entry = readdir(dir));) {
        if (sandbox_name_valid(entry->d_name)) {
            SB_CLEANUP(err) struct sb_err *why = NULL;
            SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", runtime, entry->d_name);
            r = sandbox_remove(entry->d_name, &why);
            r = r >= 0 || r == SB_ENOTFOUND ? idmap_remove_tree(path, &why) : r;
            if (r < 0 && err) {
                *err = sb_steal(&why);
            }
        }
    }
    if (dir) {
        closedir(dir);
    }
    return r;
}

struct places {
    char *sandboxes, *state, *runtime, *config;
};

static void sb_cleanup_places(struct places *places)
{
    free(places->sandboxes);
    free(places->state);
    free(places->runtime);
    free(places->config);
}

static int find_places(struct places *ret, struct sb_err **err)
{
    int r = sandboxes_dir(&ret->sandboxes, err);
    r = r < 0 ? r : sb_path_state(&ret->state, err);
    r = r < 0 ? r : sb_path_runtime(&ret->runtime, err);
    return r < 0 ? r : sb_path_config(&ret->config, err);
}

int reset_all(bool keep_secrets, void (*removed)(const char *name), struct sb_err **err)
{
    static const char *const of_state[] = {"sandboxes", "templates",  "vm", "log",
                                           "log-heads", "slots.lock", NULL};
    static const char *const of_config[] = {"policy", "settings", NULL};
    static const char *const of_secrets[] = {"secrets", NULL};
    SB_CLEANUP(fd) int lock = sandbox_lock_creations(err);
    SB_CLEANUP(places) struct places places = {0};
    int r = lock < 0 ? lock : find_places(&places, err);
    r = r < 0 ? r : sandbox_each(remove_sandbox, &removed, err);
    r = r < 0 ? r : remove_strays(places.runtime, err);
    r = r < 0 ? r : trash_sweep(places.sandboxes, true, err);
    r = r < 0 ? r : remove_names(places.state, of_state, err);
    r = r < 0 ? r : remove_names(places.config, of_config, err);
    if (r == 0 && !keep_secrets) {
        r = remove_names(places.config, of_secrets, err);
    }
    const char *const dirs[] = {places.runtime, places.state, places.config};
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(dirs); i++) {
        rmdir(dirs[i]);
    }
    return r;
}
