/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy_scope.h"

#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "policy/store.h"
#include "sandbox/client.h"

void policy_scope_begin(const struct cli_args *args, size_t skip, struct policy_scope *ret)
{
    skip += args->nwords > skip && strcmp(args->words[skip], "network") == 0;
    *ret = (struct policy_scope){.words = args->words + skip, .nwords = args->nwords - skip};
}

int policy_scope_parse(const struct cli_args *args, size_t skip, struct policy_scope *ret,
                       struct sb_err **err)
{
    struct policy_scope scope;
    policy_scope_begin(args, skip, &scope);
    scope.sandbox = cli_string(args, "sandbox");
    bool global = cli_bool(args, "global");
    if (global && scope.sandbox) {
        return sb_fail(err, SB_EUSAGE, "-g and --sandbox exclude each other");
    }
    if (!global && !scope.sandbox) {
        if (!scope.nwords) {
            int r = sb_fail(err, SB_EUSAGE, "expected -g or the name of a sandbox");
            sb_hint(err, "-g changes the rules of every sandbox");
            return r;
        }
        scope.sandbox = scope.words[0];
        scope.words++;
        scope.nwords--;
    }
    if (scope.sandbox && !sandbox_name_valid(scope.sandbox)) {
        int r = sb_fail(err, SB_EUSAGE, "'%s' is not the name of a sandbox", scope.sandbox);
        sb_hint(err, "write -g before the resource to change the rules of every sandbox");
        return r;
    }
    *ret = scope;
    return 0;
}

const char *policy_scope_word(const struct policy_scope *scope)
{
    return scope->sandbox ? scope->sandbox : "-g";
}

char *policy_scope_text(const struct policy_scope *scope)
{
    return scope->sandbox ? sb_xasprintf("sandbox %s", scope->sandbox)
                          : sb_xstrdup("all sandboxes");
}

int policy_refuse_user(const char *place, struct sb_err **err)
{
    const char *scheme = strstr(place, "://"), *authority = scheme ? scheme + 3 : place;
    if (!memchr(authority, '@', strcspn(authority, "/?# \t"))) {
        return 0;
    }
    sb_fail(err, SB_EUSAGE, "a user name or a password stands before the host");
    sb_hint(err, "leave out all up to the '@': rules are about hosts and requests");
    return SB_EUSAGE;
}

int policy_load_rules(const char *sandbox, json_t *rules, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    int r = sandbox ? sandbox_load(sandbox, &config, err) : 0;
    if (r == 0) {
        r = policy_store_rules(sandbox, rules, err);
    }
    return r < 0 ? r : policy_plan_rules(json_object_get(config, "plan"), rules, err);
}

int policy_reload(const char *sandbox, struct sb_err **err)
{
    int r = sandbox_reload(sandbox, err);
    return r < 0 ? sb_wrap(err, r, "this is stored, but a running sandbox keeps what it had") : 0;
}

void policy_print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    putchar('\n');
}
