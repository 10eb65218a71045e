/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy init|allow|deny|rm`: the words of a person on one side, policy/store and
 * policy/policy on the other.  Decides nothing itself. */
#include "cli/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/msg.h"
#include "cli/policy_scope.h"
#include "policy/rule.h"
#include "policy/store.h"
#include "sandbox/client.h"

#define FLAG_METHOD                                                                                \
    {                                                                                              \
        "method", 0, CLI_STRING, "METHOD,...", "Only requests with these methods (ANY: all)"       \
    }
#define FLAG_PATH                                                                                  \
    {                                                                                              \
        "path", 0, CLI_STRING, "GLOB", "Only these paths; * is one segment, ** any number"         \
    }

const struct cli_flag cli_flags_policy_allow[] = {
    POLICY_FLAG_GLOBAL, POLICY_FLAG_SANDBOX, FLAG_METHOD, FLAG_PATH, {0}};
const struct cli_flag cli_flags_policy_deny[] = {
    POLICY_FLAG_GLOBAL,
    POLICY_FLAG_SANDBOX,
    FLAG_METHOD,
    FLAG_PATH,
    {"except", 0, CLI_LIST, "RESOURCE", "What this rule does not deny"},
    {0},
};
const struct cli_flag cli_flags_policy_rm[] = {
    POLICY_FLAG_GLOBAL,
    POLICY_FLAG_SANDBOX,
    {"resource", 0, CLI_STRING, "RESOURCE", "Remove the rules for this resource"},
    {"id", 0, CLI_STRING, "ID", "Remove the rule with this id"},
    FLAG_METHOD,
    FLAG_PATH,
    {0},
};

int cmd_policy_init(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    int r = policy_store_set_preset(args->words[0], err);
    if (r == 0) {
        r = policy_reload(NULL, err);
    }
    if (r < 0) {
        return r;
    }
    printf("default policy: %s\n", args->words[0]);
    *ret_status = 0;
    return 0;
}

/* Appends the parts of "a,b". A word with blanks holds more of a rule than its resource, and is one
 * part. */
static int split_commas(const char *word, json_t *parts, struct sb_err **err)
{
    bool whole = strpbrk(word, " \t") != NULL;
    const char *begin = word;
    for (bool more = true; more;) {
        int r = policy_refuse_user(word, err);
        if (r < 0) {
            return r;
        }
        size_t n = whole ? strlen(word) : strcspn(word, ",");
        more = word[n] == ',';
        if (n == 0) {
            r = sb_fail(err, SB_EUSAGE, "a host is missing%s", *begin ? " beside ','" : "");
            sb_err_set_place(err, NULL, 1, (size_t)(word - begin) + 1, 1, *begin ? begin : NULL);
            return r;
        }
        /* It must not vanish: the other words would then be all that is asked for. */
        if (json_array_append_new(parts, json_stringn(word, n)) < 0) {
            return sb_fail(err, SB_EUSAGE, "'%s' is not UTF-8 text: expected a host", word);
        }
        word += n + more;
    }
    return 0;
}

/* ---- allow and deny ---- */

static int check_flags(const struct cli_args *args, struct sb_err **err)
{
    const char *method = cli_string(args, "method"), *path = cli_string(args, "path");
    if (method && !*method) {
        return sb_fail(err, SB_EUSAGE, "--method is empty: expected methods, such as GET,HEAD");
    }
    if (path && !method) {
        int r = sb_fail(err, SB_EUSAGE, "--path needs --method");
        sb_hint(err, "say for which: --method GET,HEAD, or --method ANY");
        return r;
    }
    if ((method && strpbrk(method, " \t\r\n")) || (path && strpbrk(path, " \t\r\n"))) {
        return sb_fail(err, SB_EUSAGE, "%s holds no blanks",
                       path && strpbrk(path, " \t\r\n") ? "a path" : "a list of methods");
    }
    return 0;
}

/* The canonical rules that the words and flags mean, so that an error changes nothing. */
static int compose_rules(const struct cli_args *args, const struct policy_scope *scope, bool allow,
                         json_t *rules, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *resources = json_array();
    SB_CLEANUP(json) json_t *except = json_array();
    size_t count = 0, i;
    const char *const *words = allow ? NULL : cli_list(args, "except", &count);
    int r = 0;
    for (i = 0; r == 0 && i < scope->nwords; i++) {
        r = split_commas(scope->words[i], resources, err);
    }
    for (i = 0; r == 0 && i < count; i++) {
        r = split_commas(words[i], except, err);
    }
    if (r < 0) {
        return r;
    }
    size_t nexcept = json_array_size(except);
    SB_CLEANUP(free) const char **texts = sb_xcalloc(nexcept + 1, sizeof(*texts));
    for (i = 0; i < nexcept; i++) {
        texts[i] = json_string_value(json_array_get(except, i));
    }
    struct policy_words rule = {.methods = cli_string(args, "method"),
                                .path = cli_string(args, "path"),
                                .except = texts,
                                .nexcept = nexcept};
    const json_t *resource;
    json_array_foreach(resources, i, resource)
    {
        SB_CLEANUP(free) char *text = NULL;
        rule.pattern = json_string_value(resource);
        r = policy_canonical_words(allow, &rule, &text, err);
        if (r < 0) {
            return r;
        }
        json_array_append_new(rules, json_string(text));
    }
    return 0;
}

/* Where a pattern names one place: that place is still denied by another rule; say so at once. */
static void note_if_denied(const struct policy *policy, const struct pattern *pattern)
{
    struct policy_decision decision;
    uint16_t port = pattern->ports.first ? pattern->ports.first : 443;
    if (pattern->kind != PATTERN_EXACT) {
        return;
    }
    policy_decide(policy, &(struct policy_request){.host = &pattern->host, .port = port},
                  &decision);
    if (decision.rule && !decision.rule->allow && !decision.needs_request) {
        printf("  but %s stays denied by '%s' (%s, id %s)\n", pattern->host.text,
               decision.rule->text, decision.rule->origin, decision.rule->id);
    }
}

/* An allow rule, or an exception, below another deny rule changes nothing. */
static void note_denied_places(const struct policy *policy, const char *text)
{
    SB_CLEANUP(rule) struct rule rule = {0};
    if (rule_parse(text, &rule, NULL) < 0) {
        return;
    }
    if (rule.allow) {
        note_if_denied(policy, &rule.pattern);
    }
    for (size_t i = 0; i < rule.nexcept; i++) {
        note_if_denied(policy, &rule.except[i]);
    }
}

static void print_change(const struct policy_scope *scope, const json_t *rules)
{
    SB_CLEANUP(json) json_t *all = json_array();
    SB_CLEANUP(policy) struct policy *policy = NULL;
    SB_CLEANUP(free) char *whose = policy_scope_text(scope);
    if (policy_load_rules(scope->sandbox, all, NULL) == 0) {
        policy_from_json(all, &policy, NULL);
    }
    size_t i;
    const json_t *item;
    json_array_foreach(rules, i, item)
    {
        const char *text = json_string_value(item), *words = strchr(text, ' ') + 1;
        char id[POLICY_ID_MAX];
        policy_rule_id(text, scope->sandbox ? "sandbox" : "global", id);
        printf("%s %s for %s (id %s)\n", *text == 'a' ? "allowed" : "denied", words, whose, id);
        if (policy) {
            note_denied_places(policy, text);
        }
    }
}

/* "-g demo api.example.com" would open that to every sandbox, where one was meant.  No host that
 * anybody means has the name of a sandbox and no dot in it. */
static int refuse_both_scopes(const struct cli_args *args, const struct policy_scope *scope,
                              struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    const char *word = scope->nwords ? scope->words[0] : "";
    if (!cli_bool(args, "global") || strchr(word, '.') || !sandbox_name_valid(word) ||
        sandbox_load(word, &config, NULL) < 0) {
        return 0;
    }
    return sb_fail(err, SB_EUSAGE, "'%s' is a sandbox: give -g or its name, not both", word);
}

static int change(const struct cli_args *args, bool allow, int *ret_status, struct sb_err **err)
{
    struct policy_scope scope;
    SB_CLEANUP(json) json_t *config = NULL;
    SB_CLEANUP(json) json_t *rules = json_array();
    int r = policy_scope_parse(args, 0, &scope, err);
    r = r < 0 ? r : check_flags(args, err);
    r = r < 0 ? r : refuse_both_scopes(args, &scope, err);
    if (r < 0) {
        return r;
    }
    if (!scope.nwords) {
        r = sb_fail(err, SB_EUSAGE, "expected a resource, such as api.example.com:443");
        sb_hint(err, scope.sandbox ? "write -g before the resource to change every sandbox"
                                   : "sbx policy check tells what is allowed now");
        return r;
    }
    r = compose_rules(args, &scope, allow, rules, err);
    if (r == 0 && scope.sandbox) {
        r = sandbox_load(scope.sandbox, &config, err);
    }
    r = r < 0 ? r : policy_store_add(scope.sandbox, rules, err);
    if (r < 0) {
        return r;
    }
    print_change(&scope, rules);
    r = policy_reload(scope.sandbox, err);
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

/* ---- rm ---- */

static int refuse_missing(const struct policy_scope *scope, const char *what, struct sb_err **err)
{
    SB_CLEANUP(free) char *whose = policy_scope_text(scope);
    const char *name = scope->sandbox ? scope->sandbox : "";
    int r = sb_fail(err, SB_ENOTFOUND, "no rule '%s' among those written for %s", what, whose);
    sb_hint(
        err,
        "'sbx policy ls%s%s' shows every rule; those of presets and kits cannot be removed, but "
        "'sbx policy deny' wins over them",
        *name ? " " : "", name);
    return r;
}

/* "deny", "a.com" and "except", "b.a.com": a rule may come as one word or as several. */
static int join_words(const struct policy_scope *scope, char **ret, struct sb_err **err)
{
    struct sb_buf text;
    sb_buf_init(&text, RULE_LINE_MAX + 1);
    for (size_t i = 0; i < scope->nwords; i++) {
        sb_buf_printf(&text, "%s%s", i ? " " : "", scope->words[i]);
    }
    bool too_long = text.overflow;
    *ret = sb_buf_steal(&text);
    return too_long ? sb_fail(err, SB_ELIMIT, "no rule is that long") : 0;
}

int cmd_policy_rm(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    struct policy_scope scope;
    SB_CLEANUP(free) char *word = NULL;
    int r = policy_scope_parse(args, 0, &scope, err);
    if (r == 0 && scope.nwords) {
        r = join_words(&scope, &word, err);
    }
    if (r < 0) {
        return r;
    }
    const struct policy_selection selection = {.word = word,
                                               .id = cli_string(args, "id"),
                                               .resource = cli_string(args, "resource"),
                                               .methods = cli_string(args, "method"),
                                               .path = cli_string(args, "path")};
    if (!!selection.id + !!selection.resource + !!word != 1) {
        r = sb_fail(err, SB_EUSAGE, "expected one rule to remove");
        if (scope.sandbox && !selection.id && !selection.resource) {
            sb_hint(err, "'%s' was taken for a sandbox: write -g before a rule of all sandboxes",
                    scope.sandbox);
        } else {
            sb_hint(err, "name it by --id ID, by --resource RESOURCE or by either without a flag");
        }
        return r;
    }
    SB_CLEANUP(json) json_t *removed = json_array();
    r = policy_store_remove(scope.sandbox, &selection, removed, err);
    if (r < 0) {
        return r;
    }
    if (!json_array_size(removed)) {
        const char *what = word ? word : selection.id ? selection.id : selection.resource;
        return refuse_missing(&scope, what, err);
    }
    size_t i;
    const json_t *item;
    json_array_foreach(removed, i, item)
    {
        printf("removed: %s\n", json_string_value(item));
    }
    r = policy_reload(scope.sandbox, err);
    if (r == 0) {
        *ret_status = 0;
    }
    return r;
}
