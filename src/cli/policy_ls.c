/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy ls`: every rule that holds, with where it comes from. */
#include <string.h>

#include "base/buf.h"
#include "base/msg.h"
#include "cli/policy.h"
#include "cli/policy_scope.h"
#include "policy/rule.h"

const struct cli_flag cli_flags_policy_ls[] = {
    POLICY_FLAG_JSON,
    {"type", 0, CLI_STRING, "TYPE", "all, network (connections) or http (requests)"},
    {0},
};

static bool denies_all_of_pattern(const struct rule *rule)
{
    return !rule->allow && !rule->methods && !rule->nexcept;
}

/* The patterns that some rule denies whole: allow rules for them change nothing. */
static json_t *denied_patterns(const json_t *rules)
{
    json_t *denied = json_object();
    size_t i;
    const json_t *item;
    json_array_foreach(rules, i, item)
    {
        SB_CLEANUP(rule) struct rule rule = {0};
        char pattern[PATTERN_TEXT_MAX];
        if (rule_parse(sb_json_str(item, "text"), &rule, NULL) == 0 &&
            denies_all_of_pattern(&rule)) {
            pattern_format(&rule.pattern, pattern);
            json_object_set_new(denied, pattern, json_true());
        }
    }
    return denied;
}

static json_t *describe_exceptions(const struct rule *rule)
{
    json_t *out = json_array();
    for (size_t i = 0; i < rule->nexcept; i++) {
        char pattern[PATTERN_TEXT_MAX];
        pattern_format(&rule->except[i], pattern);
        json_array_append_new(out, json_string(pattern));
    }
    return out;
}

static json_t *describe_rule(const json_t *item, const struct rule *rule, const json_t *denied)
{
    char pattern[PATTERN_TEXT_MAX], methods[RULE_METHODS_TEXT_MAX];
    pattern_format(&rule->pattern, pattern);
    rule_format_methods(rule->methods, methods);
    bool overridden = rule->allow && json_object_get(denied, pattern);
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:[s],s:o,s:s?,s:s?}", "id", sb_json_str(item, "id"),
                     "type", rule->methods ? "http" : "network", "origin",
                     sb_json_str(item, "origin"), "decision", rule->allow ? "allow" : "deny",
                     "status", overridden ? "overridden" : "active", "resources", pattern, "except",
                     describe_exceptions(rule), "method", rule->methods ? methods : NULL, "path",
                     rule->path);
}

/* Turns {"text","id","origin"} into what is shown. */
static json_t *describe_rules(const json_t *rules, const char *type)
{
    SB_CLEANUP(json) json_t *denied = denied_patterns(rules);
    json_t *out = json_array();
    size_t i;
    const json_t *item;
    json_array_foreach(rules, i, item)
    {
        SB_CLEANUP(rule) struct rule rule = {0};
        if (rule_parse(sb_json_str(item, "text"), &rule, NULL) == 0 &&
            (!type || strcmp(type, rule.methods ? "http" : "network") == 0)) {
            json_array_append_new(out, describe_rule(item, &rule, denied));
        }
    }
    return out;
}

/* "**.a.com except b.a.com" */
static char *resource_text(const json_t *rule)
{
    struct sb_buf text;
    sb_buf_init(&text, RULE_LINE_MAX + 1);
    sb_buf_puts(&text, json_string_value(json_array_get(json_object_get(rule, "resources"), 0)));
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(rule, "except"), i, item)
    {
        sb_buf_printf(&text, "%s%s", i ? " " : " except ", json_string_value(item));
    }
    return sb_buf_steal(&text);
}

static void print_rules(const json_t *rules)
{
    static const char *const headers[] = {"NAME",      "TYPE",   "ORIGIN", "DECISION", "STATUS",
                                          "RESOURCES", "METHOD", "PATH",   NULL};
    struct cli_table *table = cli_table_new(headers);
    size_t i;
    const json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        SB_CLEANUP(free) char *resources = resource_text(rule);
        const char *method = sb_json_str(rule, "method"), *path = sb_json_str(rule, "path");
        const char *cells[] = {
            sb_json_str(rule, "id"),       sb_json_str(rule, "type"),   sb_json_str(rule, "origin"),
            sb_json_str(rule, "decision"), sb_json_str(rule, "status"), resources,
            method ? method : "-",         path ? path : "-",           NULL};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
}

int cmd_policy_ls(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    const char *type = cli_string(args, "type");
    if (type && strcmp(type, "all") == 0) {
        type = NULL;
    }
    if (type && strcmp(type, "http") != 0 && strcmp(type, "network") != 0) {
        return sb_fail(err, SB_EUSAGE, "--type is all, network or http, not '%s'", type);
    }
    SB_CLEANUP(json) json_t *rules = json_array();
    int r = policy_load_rules(args->nwords ? args->words[0] : NULL, rules, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(json) json_t *shown = describe_rules(rules, type);
    if (cli_bool(args, "json")) {
        policy_print_json(shown);
    } else {
        print_rules(shown);
    }
    *ret_status = 0;
    return 0;
}
