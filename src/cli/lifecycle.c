/* SPDX-License-Identifier: Apache-2.0
 * sbx start, stop, rm and reset.
 *
 * Each takes several names and goes on after a failure, so that one broken sandbox does not keep
 * the others from being handled; the first failure is what the command returns. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/msg.h"
#include "cli/basic.h"
#include "sandbox/client.h"
#include "sandbox/reset.h"
#include "sandbox/steps.h"

const struct cli_flag cli_flags_rm[] = {
    {"all", 0, CLI_BOOL, NULL, "Remove every sandbox"},
    {"force", 'f', CLI_BOOL, NULL, "Do not ask"},
    {0},
};

const struct cli_flag cli_flags_reset[] = {
    {"force", 'f', CLI_BOOL, NULL, "Do not ask"},
    {"preserve-secrets", 0, CLI_BOOL, NULL, "Keep the secrets"},
    {0},
};

typedef int sandbox_fn(const char *name, struct sb_err **err);

static int for_each(const char *const *names, size_t count, sandbox_fn *fn, struct sb_err **err)
{
    SB_CLEANUP(err) struct sb_err *first = NULL;
    int result = 0;
    for (size_t i = 0; i < count; i++) {
        SB_CLEANUP(err) struct sb_err *failure = NULL;
        int r = fn(names[i], &failure);
        if (r == 0) {
            puts(names[i]);
        } else if (result == 0) {
            result = r;
            first = sb_steal(&failure);
        } else if (failure) {
            sb_err_print(failure);
        }
    }
    if (result < 0 && err) {
        *err = sb_steal(&first);
    }
    return result;
}

/* A name that no sandbox has is a mistake to report, also where there would be nothing to do. */
static int require_sandbox(const char *name, struct sb_err **err)
{
    if (!sandbox_name_valid(name)) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not the name of a sandbox", name);
    }
    SB_CLEANUP(json) json_t *config = NULL;
    return sandbox_load(name, &config, err);
}

static int start_one(const char *name, struct sb_err **err)
{
    bool started = false;
    int r = require_sandbox(name, err);
    return r < 0 ? r : sandbox_up(name, false, &started, err);
}

static int stop_one(const char *name, struct sb_err **err)
{
    int r = require_sandbox(name, err);
    return r < 0 ? r : sandbox_stop(name, err);
}

/* Removes also what an interrupted command left behind and no longer loads; a name that was never
 * used is still an error. */
static int remove_one(const char *name, struct sb_err **err)
{
    SB_CLEANUP(err) struct sb_err *problem = NULL;
    int known = require_sandbox(name, &problem);
    bool fatal = known == SB_EUSAGE;
    int r = fatal ? 0 : sandbox_remove(name, err);
    /* One that was being made when we asked may have been removed all the same. */
    if (r == 0 && (fatal || known == SB_ENOTFOUND)) {
        if (err) {
            *err = sb_steal(&problem);
        }
        return known;
    }
    return r < 0 ? r : 0;
}

int cmd_start(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    *ret_status = 0;
    return for_each(args->words, args->nwords, start_one, err);
}

int cmd_stop(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    *ret_status = 0;
    return for_each(args->words, args->nwords, stop_one, err);
}

/* Names of all sandboxes; they live as long as *ret_list. */
static int list_names(json_t **ret_list, const char ***ret_names, size_t *ret_count,
                      struct sb_err **err)
{
    SB_CLEANUP(json) json_t *list = NULL;
    int r = sandbox_list(&list, err);
    if (r < 0) {
        return r;
    }
    const char **names = sb_xcalloc(json_array_size(list) + 1, sizeof(*names));
    size_t count = 0;
    size_t i;
    const json_t *sandbox;
    json_array_foreach(list, i, sandbox)
    {
        const char *name = sb_json_str(sandbox, "name");
        if (name) {
            names[count++] = name;
        }
    }
    *ret_names = names;
    *ret_count = count;
    *ret_list = sb_steal(&list);
    return 0;
}

/* Nobody shall say yes to what is not there. */
static int check_all_there(const char *const *names, size_t count, struct sb_err **err)
{
    for (size_t i = 0; i < count; i++) {
        SB_CLEANUP(free) char *dir = NULL;
        int r = sandbox_dir(names[i], &dir, err);
        if (r == 0 && access(dir, F_OK) < 0) {
            r = sb_fail(err, SB_ENOTFOUND, "there is no sandbox named '%s'", names[i]);
            sb_hint(err, "nothing was removed; 'sbx ls' lists the sandboxes");
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Asks whether to remove these and `more`; refuses unless a person at a terminal says yes. */
static int confirm_removal(const struct cli_args *args, const char *const *names, size_t count,
                           const char *more, struct sb_err **err)
{
    if (cli_bool(args, "force")) {
        return 0;
    }
    if (!isatty(STDIN_FILENO)) {
        int r = sb_fail(err, SB_EUSAGE, "%s asks before it removes, and there is no terminal",
                        args->command->path);
        sb_hint(err, "add --force to remove without being asked");
        return r;
    }
    fputs("Remove", stderr);
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "%s %s", i ? "," : "", names[i]);
    }
    fprintf(stderr, "%s%s? [y/N] ", count > 0 ? " and " : " ", more);
    char answer[16] = "";
    if (!fgets(answer, sizeof(answer), stdin) || (answer[0] != 'y' && answer[0] != 'Y')) {
        return sb_fail(err, SB_EFAIL, "nothing was removed");
    }
    return 0;
}

int cmd_rm(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    bool all = cli_bool(args, "all");
    if (all == (args->nwords > 0)) {
        return sb_fail(err, SB_EUSAGE,
                       all ? "--all and names exclude each other" : "no sandbox named");
    }
    SB_CLEANUP(json) json_t *list = NULL;
    SB_CLEANUP(free) const char **owned = NULL;
    const char *const *names = args->words;
    size_t count = args->nwords;
    if (all) {
        int r = list_names(&list, &owned, &count, err);
        if (r < 0) {
            return r;
        }
        names = owned;
    }
    for (size_t i = 0; i < count; i++) {
        if (!sandbox_name_valid(names[i])) {
            return sb_fail(err, SB_EUSAGE, "'%s' is not the name of a sandbox", names[i]);
        }
    }
    *ret_status = 0;
    if (count > 0) {
        int r = all || cli_bool(args, "force") ? 0 : check_all_there(names, count, err);
        r = r < 0 ? r
                  : confirm_removal(args, names, count,
                                    "everything in it that is not in the workspace", err);
        if (r < 0) {
            return r;
        }
    }
    return for_each(names, count, remove_one, err);
}

static void print_name(const char *name)
{
    puts(name);
}

int cmd_reset(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    bool keep_secrets = cli_bool(args, "preserve-secrets");
    SB_CLEANUP(json) json_t *list = NULL;
    SB_CLEANUP(free) const char **names = NULL;
    size_t count = 0;
    int r = list_names(&list, &names, &count, err);
    r = r < 0 ? r
              : confirm_removal(args, names, count,
                                keep_secrets ? "all logs, rules and settings"
                                             : "all logs, rules, settings and secrets",
                                err);
    *ret_status = 0;
    return r < 0 ? r : reset_all(keep_secrets, print_name, err);
}
