/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy init|ls|allow|deny|rm|check`: the words of a person on one side, policy/store and
 * policy/policy on the other.  Decides nothing itself. */
#include "cli/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "policy/store.h"
#include "sandbox/client.h"

#define FLAG_GLOBAL                                                                                \
    {                                                                                              \
        "global", 'g', CLI_BOOL, NULL, "for every sandbox"                                         \
    }
#define FLAG_SANDBOX                                                                               \
    {                                                                                              \
        "sandbox", 0, CLI_STRING, "SANDBOX", "for this sandbox"                                    \
    }
#define FLAG_JSON                                                                                  \
    {                                                                                              \
        "json", 0, CLI_BOOL, NULL, "print JSON"                                                    \
    }

const struct cli_flag cli_flags_policy_ls[] = {
    FLAG_JSON,
    {"type", 0, CLI_STRING, "TYPE", "all or network (there is no other type)"},
    {0},
};
const struct cli_flag cli_flags_policy_change[] = {FLAG_GLOBAL, FLAG_SANDBOX, {0}};
const struct cli_flag cli_flags_policy_rm[] = {
    FLAG_GLOBAL,
    FLAG_SANDBOX,
    {"resource", 0, CLI_STRING, "RESOURCE", "remove the rules for this resource"},
    {"id", 0, CLI_STRING, "ID", "remove the rule with this id"},
    {0},
};
const struct cli_flag cli_flags_policy_check[] = {FLAG_SANDBOX, FLAG_JSON, {0}};

/* The positional words behind the optional "network", and whose rules are meant. */
struct scope {
    const char *sandbox; /* NULL: every sandbox */
    const char *const *words;
    size_t nwords;
};

static void scope_begin(const struct cli_args *args, struct scope *scope)
{
    size_t skip = args->nwords && strcmp(args->words[0], "network") == 0;
    *scope = (struct scope){.words = args->words + skip, .nwords = args->nwords - skip};
}

static int scope_parse(const struct cli_args *args, struct scope *ret, struct sb_err **err)
{
    struct scope scope;
    scope_begin(args, &scope);
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

static int reload(const char *sandbox, struct sb_err **err)
{
    int r = sandbox_reload(sandbox, err);
    return r < 0 ? sb_wrap(err, r, "the rules are stored, but a running sandbox keeps its old ones")
                 : 0;
}

int cmd_policy_init(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    int r = policy_store_set_preset(args->words[0], err);
    if (r == 0) {
        r = reload(NULL, err);
    }
    if (r < 0) {
        return r;
    }
    printf("default policy: %s\n", args->words[0]);
    *ret_status = 0;
    return 0;
}

static int add_kit_rules(const json_t *list, bool allow, json_t *rules, struct sb_err **err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *pattern = sb_json_str(item, "rule"), *kit = sb_json_str(item, "kit");
        if (!pattern) {
            continue;
        }
        SB_CLEANUP(free) char *text = NULL;
        SB_CLEANUP(free) char *origin = sb_xasprintf("kit:%s", kit ? kit : "?");
        int r = policy_canonical_pattern(allow, pattern, &text, err);
        if (r < 0) {
            return sb_wrap(err, r, "rule of %s", origin);
        }
        char id[POLICY_ID_MAX];
        policy_rule_id(text, origin, id);
        json_array_append_new(rules,
                              json_pack("{s:s,s:s,s:s}", "text", text, "id", id, "origin", origin));
    }
    return 0;
}

/* Every rule that holds: preset, global and, with a sandbox, its own and its kits'. */
static int load_rules(const char *sandbox, json_t *rules, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    int r = sandbox ? sandbox_load(sandbox, &config, err) : 0;
    if (r == 0) {
        r = policy_store_rules(sandbox, rules, NULL, err);
    }
    const json_t *plan = json_object_get(config, "plan");
    if (r == 0) {
        r = add_kit_rules(json_object_get(plan, "allow"), true, rules, err);
    }
    if (r == 0) {
        r = add_kit_rules(json_object_get(plan, "deny"), false, rules, err);
    }
    return r;
}

static const char *rule_pattern(const char *text)
{
    const char *space = strchr(text, ' ');
    return space ? space + 1 : text;
}

/* Turns {"text","id","origin"} into what is shown. */
static json_t *describe_rules(const json_t *rules)
{
    SB_CLEANUP(json) json_t *denied = json_object();
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const char *text = sb_json_str(json_array_get(rules, i), "text");
        if (strncmp(text, "deny ", 5) == 0) {
            json_object_set_new(denied, rule_pattern(text), json_true());
        }
    }
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        const char *text = sb_json_str(rule, "text"), *pattern = rule_pattern(text);
        bool allow = strncmp(text, "allow ", 6) == 0;
        bool shadowed = allow && json_object_get(denied, pattern);
        json_array_append_new(
            out, json_pack("{s:s,s:s,s:s,s:s,s:s,s:[s]}", "id", sb_json_str(rule, "id"), "type",
                           "network", "origin", sb_json_str(rule, "origin"), "decision",
                           allow ? "allow" : "deny", "status", shadowed ? "overridden" : "active",
                           "resources", pattern));
    }
    return out;
}

static void print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
}

int cmd_policy_ls(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    const char *type = cli_string(args, "type");
    if (type && strcmp(type, "all") != 0 && strcmp(type, "network") != 0) {
        return sb_fail(err, SB_EUSAGE, "--type is all or network, not '%s'", type);
    }
    SB_CLEANUP(json) json_t *rules = json_array();
    int r = load_rules(args->nwords ? args->words[0] : NULL, rules, err);
    if (r < 0) {
        return r;
    }
    *ret_status = 0;
    SB_CLEANUP(json) json_t *shown = describe_rules(rules);
    if (cli_bool(args, "json")) {
        print_json(shown);
        return 0;
    }
    static const char *const headers[] = {"NAME",   "TYPE",      "ORIGIN", "DECISION",
                                          "STATUS", "RESOURCES", NULL};
    struct cli_table *table = cli_table_new(headers);
    for (size_t i = 0; i < json_array_size(shown); i++) {
        const json_t *rule = json_array_get(shown, i);
        const json_t *resource = json_array_get(json_object_get(rule, "resources"), 0);
        const char *cells[] = {sb_json_str(rule, "id"),
                               sb_json_str(rule, "type"),
                               sb_json_str(rule, "origin"),
                               sb_json_str(rule, "decision"),
                               sb_json_str(rule, "status"),
                               json_string_value(resource),
                               NULL};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
    return 0;
}

/* Splits "a,b" words into a JSON array of canonical rules, so that an error changes nothing. */
static int collect_patterns(const struct scope *scope, bool allow, json_t *ret, struct sb_err **err)
{
    for (size_t i = 0; i < scope->nwords; i++) {
        const char *p = scope->words[i];
        for (bool more = true; more;) {
            size_t n = strcspn(p, ",");
            more = p[n] == ',';
            SB_CLEANUP(free) char *pattern = sb_xstrndup(p, n), *text = NULL;
            int r = policy_canonical_pattern(allow, pattern, &text, err);
            if (r < 0) {
                return r;
            }
            json_array_append_new(ret, json_string(rule_pattern(text)));
            p += n + more;
        }
    }
    return 0;
}

/* An allow rule below a deny rule changes nothing; say so at once. */
static void note_if_denied(const char *sandbox, const char *pattern)
{
    struct host host;
    uint16_t port;
    SB_CLEANUP(json) json_t *rules = json_array();
    SB_CLEANUP(policy) struct policy *policy = NULL;
    if (host_parse_authority(pattern, strlen(pattern), 443, &host, &port, NULL) < 0 ||
        load_rules(sandbox, rules, NULL) < 0 || policy_from_json(rules, &policy, NULL) < 0) {
        return;
    }
    struct policy_decision decision;
    policy_decide(policy, &host, port, &decision);
    if (!decision.allow && decision.rule) {
        printf("  but it stays denied by '%s' (%s, id %s)\n", decision.rule->text,
               decision.rule->origin, decision.rule->id);
    }
}

static int change(const struct cli_args *args, bool allow, int *ret_status, struct sb_err **err)
{
    struct scope scope;
    SB_CLEANUP(json) json_t *config = NULL;
    SB_CLEANUP(json) json_t *patterns = json_array();
    int r = scope_parse(args, &scope, err);
    if (r < 0) {
        return r;
    }
    if (!scope.nwords) {
        r = sb_fail(err, SB_EUSAGE, "expected a resource, such as api.example.com:443");
        sb_hint(err, scope.sandbox ? "write -g before the resource to change every sandbox"
                                   : "sbx policy check tells what is allowed now");
        return r;
    }
    r = collect_patterns(&scope, allow, patterns, err);
    if (r == 0 && scope.sandbox) {
        r = sandbox_load(scope.sandbox, &config, err);
    }
    for (size_t i = 0; r == 0 && i < json_array_size(patterns); i++) {
        const char *pattern = json_string_value(json_array_get(patterns, i));
        SB_CLEANUP(free) char *id = NULL;
        r = policy_store_add(scope.sandbox, allow, pattern, &id, err);
        if (r == 0) {
            printf("%s %s for %s%s (id %s)\n", allow ? "allowed" : "denied", pattern,
                   scope.sandbox ? "sandbox " : "all sandboxes", scope.sandbox ? scope.sandbox : "",
                   id);
        }
        if (r == 0 && allow) {
            note_if_denied(scope.sandbox, pattern);
        }
    }
    if (r == 0) {
        r = reload(scope.sandbox, err);
    }
    if (r == 0) {
        *ret_status = 0;
    }
    return r;
}

int cmd_policy_allow(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    return change(args, true, ret_status, err);
}

int cmd_policy_deny(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    return change(args, false, ret_status, err);
}

static int refuse_missing(const struct scope *scope, const char *what, struct sb_err **err)
{
    const char *name = scope->sandbox ? scope->sandbox : "";
    int r = sb_fail(err, SB_ENOTFOUND, "no rule '%s' among those written for %s%s", what,
                    scope->sandbox ? "sandbox " : "all sandboxes", name);
    sb_hint(
        err,
        "'sbx policy ls%s%s' shows every rule; those of presets and kits cannot be removed, but "
        "'sbx policy deny' wins over them",
        *name ? " " : "", name);
    return r;
}

int cmd_policy_rm(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    struct scope scope;
    int r = scope_parse(args, &scope, err);
    if (r < 0) {
        return r;
    }
    const char *id = cli_string(args, "id"), *resource = cli_string(args, "resource");
    if ((id != NULL) + (resource != NULL) + scope.nwords != 1) {
        r = sb_fail(err, SB_EUSAGE, "expected one rule to remove");
        sb_hint(err, "name it by --id ID, by --resource RESOURCE or by either without a flag");
        return r;
    }
    const char *what = id ? id : resource ? resource : scope.words[0];
    size_t removed = 0;
    r = policy_store_remove(scope.sandbox, what, &removed, err);
    if (r < 0) {
        return r;
    }
    if (!removed) {
        return refuse_missing(&scope, what, err);
    }
    printf("removed %zu %s: %s\n", removed, removed == 1 ? "rule" : "rules", what);
    r = reload(scope.sandbox, err);
    if (r == 0) {
        *ret_status = 0;
    }
    return r;
}

/* host, host:port or a URL; the port defaults to the scheme's. */
static int parse_target(const char *text, struct host *ret_host, uint16_t *ret_port,
                        struct sb_err **err)
{
    const char *authority = text, *scheme = strstr(text, "://");
    uint16_t port = 443;
    if (scheme) {
        size_t n = (size_t)(scheme - text);
        if (n == 4 && strncasecmp(text, "http", 4) == 0) {
            port = 80;
        } else if (n != 5 || strncasecmp(text, "https", 5) != 0) {
            int r = sb_fail(err, SB_EUSAGE, "no default port is known for this URL's scheme");
            sb_hint(err, "write HOST:PORT");
            return r;
        }
        authority = scheme + 3;
    }
    size_t n = scheme ? strcspn(authority, "/?#") : strlen(authority);
    int r = host_parse_authority(authority, n, port, ret_host, ret_port, err);
    if (r < 0 && err && *err) {
        sb_err_set_place(err, NULL, 1, (*err)->place.column + (size_t)(authority - text),
                         (*err)->place.length, text);
    }
    return r;
}

/* What a person can do about a denial. */
static void print_remedy(const char *place, const char *sandbox,
                         const struct policy_decision *decision)
{
    bool written = decision->rule && (strcmp(decision->rule->origin, "global") == 0 ||
                                      strcmp(decision->rule->origin, "sandbox") == 0);
    bool global = !sandbox || (decision->rule && strcmp(decision->rule->origin, "global") == 0);
    if (!decision->rule || decision->allow) {
        printf("  to allow it: sbx policy allow %s %s\n", sandbox ? sandbox : "-g", place);
    } else if (written) {
        printf("  to allow it: sbx policy rm %s --id %s\n", global ? "-g" : sandbox,
               decision->rule->id);
    } else {
        printf("  a deny rule of a kit or preset wins over every allow rule\n");
    }
}

static void print_check(const char *target, const char *place, const char *sandbox, bool allow,
                        const struct policy_decision *decision)
{
    printf("%s: %s\n", allow ? "Allowed" : "Denied", target);
    if (!decision->rule) {
        printf("  no rule allows it (default-deny)\n");
    } else if (allow == decision->allow) {
        printf("  by rule '%s' (%s, id %s)\n", decision->rule->text, decision->rule->origin,
               decision->rule->id);
    } else {
        printf("  '%s' (%s) allows it, but this address needs a rule that names it\n",
               decision->rule->text, decision->rule->origin);
    }
    if (!allow) {
        print_remedy(place, sandbox, decision);
    }
}

static void print_check_json(const struct host *host, uint16_t port, bool allow,
                             const struct policy_decision *decision)
{
    const struct policy_rule *rule = decision->rule;
    SB_CLEANUP(json)
    json_t *out = json_pack("{s:b,s:s,s:i,s:s?,s:s?,s:s?,s:s}", "allowed", allow, "host",
                            host->text, "port", port, "rule", rule ? rule->text : NULL, "rule_id",
                            rule ? rule->id : NULL, "origin", rule ? rule->origin : NULL, "reason",
                            !rule                      ? "default-deny"
                            : allow == decision->allow ? "rule"
                                                       : "address");
    print_json(out);
}

int cmd_policy_check(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    struct scope scope;
    scope_begin(args, &scope);
    const char *sandbox = cli_string(args, "sandbox");
    if (!sandbox && scope.nwords == 2) {
        sandbox = scope.words[0]; /* "check SANDBOX TARGET", as for allow and deny */
        scope.words++;
        scope.nwords--;
    }
    if (scope.nwords != 1) {
        return sb_fail(err, SB_EUSAGE, "expected one host, host:port or URL to check");
    }
    const char *target = scope.words[0];
    struct host host;
    uint16_t port;
    SB_CLEANUP(json) json_t *rules = json_array();
    SB_CLEANUP(policy) struct policy *policy = NULL;
    int r = parse_target(target, &host, &port, err);
    if (r == 0) {
        r = load_rules(sandbox, rules, err);
    }
    if (r == 0) {
        r = policy_from_json(rules, &policy, err);
    }
    if (r < 0) {
        return r;
    }
    struct policy_decision decision;
    policy_decide(policy, &host, port, &decision);
    bool allow = decision.allow;
    if (allow && host.is_address) {
        allow = policy_allows_address(policy, &decision, &host.address, port);
    }
    if (cli_bool(args, "json")) {
        print_check_json(&host, port, allow, &decision);
    } else {
        bool v6 = strchr(host.text, ':') != NULL;
        SB_CLEANUP(free)
        char *place = sb_xasprintf("%s%s%s:%u", v6 ? "[" : "", host.text, v6 ? "]" : "", port);
        print_check(target, place, sandbox, allow, &decision);
    }
    *ret_status = allow ? 0 : 1;
    return 0;
}
