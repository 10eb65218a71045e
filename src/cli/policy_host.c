/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy host add|ls|rm`: names that the user gives an address. */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "base/nearest.h"
#include "cli/policy.h"
#include "cli/policy_scope.h"
#include "policy/store.h"
#include "sandbox/client.h"

const struct cli_flag cli_flags_policy_host[] = {
    POLICY_FLAG_GLOBAL, POLICY_FLAG_SANDBOX, POLICY_FLAG_JSON, {0}};

static int host_ls(const struct cli_args *args, struct sb_err **err)
{
    const char *sandbox = cli_string(args, "sandbox");
    if (!sandbox && args->nwords > 1) {
        sandbox = args->words[1];
    }
    if (args->nwords > 2 || (sandbox && cli_bool(args, "global"))) {
        return sb_fail(err, SB_EUSAGE, "expected one sandbox, or none");
    }
    SB_CLEANUP(json) json_t *config = NULL;
    SB_CLEANUP(json) json_t *pins = json_array();
    int r = sandbox ? sandbox_load(sandbox, &config, err) : 0;
    r = r < 0 ? r : policy_store_pins(sandbox, pins, err);
    if (r < 0) {
        return r;
    }
    if (cli_bool(args, "json")) {
        policy_print_json(pins);
        return 0;
    }
    static const char *const headers[] = {"NAME", "ADDRESS", "ORIGIN", NULL};
    struct cli_table *table = cli_table_new(headers);
    size_t i;
    const json_t *pin;
    json_array_foreach(pins, i, pin)
    {
        const char *cells[] = {sb_json_str(pin, "name"), sb_json_str(pin, "address"),
                               sb_json_str(pin, "origin"), NULL};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
    return 0;
}

static int host_add(const struct policy_scope *scope, struct sb_err **err)
{
    SB_CLEANUP(free) char *whose = policy_scope_text(scope);
    const char *name = scope->words[0], *address = scope->words[1];
    int r = policy_store_pin(scope->sandbox, name, address, err);
    if (r == 0) {
        printf("%s leads to %s for %s\n", name, address, whose);
    }
    return r;
}

static int host_rm(const struct policy_scope *scope, struct sb_err **err)
{
    SB_CLEANUP(free) char *whose = policy_scope_text(scope);
    bool removed = false;
    int r = policy_store_unpin(scope->sandbox, scope->words[0], &removed, err);
    if (r == 0 && !removed) {
        r = sb_fail(err, SB_ENOTFOUND, "'%s' has no address of its own for %s", scope->words[0],
                    whose);
        sb_hint(err, "'sbx policy host ls' shows the names that have");
    }
    if (r == 0) {
        printf("%s is looked up again for %s\n", scope->words[0], whose);
    }
    return r;
}

static int host_change(const struct cli_args *args, bool add, struct sb_err **err)
{
    struct policy_scope scope;
    SB_CLEANUP(json) json_t *config = NULL;
    int r = policy_scope_parse(args, 1, &scope, err);
    if (r < 0) {
        return r;
    }
    if (scope.nwords != (add ? 2 : 1)) {
        r = sb_fail(err, SB_EUSAGE, add ? "expected a name and an address" : "expected one name");
        sb_hint(err, "such as: sbx policy host %s git.example.com%s", add ? "add -g" : "rm -g",
                add ? " 10.1.2.3:8443" : "");
        return r;
    }
    r = scope.sandbox ? sandbox_load(scope.sandbox, &config, err) : 0;
    r = r < 0 ? r : add ? host_add(&scope, err) : host_rm(&scope, err);
    return r < 0 ? r : policy_reload(scope.sandbox, err);
}

int cmd_policy_host(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    static const char *const names[] = {"add", "ls", "rm"};
    const char *verb = args->words[0];
    int r;
    if (strcmp(verb, "ls") == 0) {
        r = host_ls(args, err);
    } else if (strcmp(verb, "add") == 0 || strcmp(verb, "rm") == 0) {
        r = host_change(args, strcmp(verb, "add") == 0, err);
    } else {
        const char *near = sb_nearest(verb, names, SB_ARRAY_LEN(names));
        r = sb_fail(err, SB_EUSAGE, "expected add, ls or rm, not '%s'", verb);
        if (near) {
            sb_hint(err, "did you mean 'sbx policy host %s'?", near);
        }
    }
    if (r == 0) {
        *ret_status = 0;
    }
    return r;
}
