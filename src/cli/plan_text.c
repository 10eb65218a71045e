/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/plan_text.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/msg.h"
#include "cli/kit_ref.h"

static void print_of_kit(const char *what, const json_t *entry, const char *text)
{
    printf("  %-8s ", what);
    kit_print_text(text ? text : "");
    printf(" (kit %s)\n", sb_json_str(entry, "kit"));
}

/* A kit may name a host as its own and again for each credential: it is shown once. */
static void print_rules(const char *what, const json_t *rules)
{
    SB_CLEANUP(json) json_t *shown = json_object();
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        const char *text = sb_json_str(rule, "rule");
        SB_CLEANUP(free) char *key = sb_xasprintf("%s %s", sb_json_str(rule, "kit"), text);
        if (!json_object_get(shown, key)) {
            json_object_set_new(shown, key, json_true());
            print_of_kit(what, rule, text);
        }
    }
}

static void print_volumes(const json_t *volumes)
{
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        const json_t *volume = json_array_get(volumes, i);
        const char *type = sb_json_str(volume, "type"), *size = sb_json_str(volume, "size");
        printf("  %-8s ", "volume");
        kit_print_text(sb_json_str(volume, "path"));
        printf(*type ? " (in memory%s%s)\n" : "\n", *size ? ", " : "", size);
    }
}

static void print_credentials(const json_t *credentials)
{
    for (size_t i = 0; i < json_array_size(credentials); i++) {
        const json_t *credential = json_array_get(credentials, i);
        print_of_kit("secret", credential, sb_json_str(credential, "service"));
    }
}

static void print_environment(json_t *env)
{
    const char *variable;
    json_t *value;
    json_object_foreach(env, variable, value)
    {
        printf("  %-8s %s=", "env", variable);
        kit_print_text(json_string_value(value));
        putchar('\n');
    }
}

/* All words of a command: what it does may stand in the last. */
static char *join_words(const json_t *argv)
{
    enum { WORDS_MAX = 1 << 20 };
    struct sb_buf text;
    sb_buf_init(&text, WORDS_MAX);
    for (size_t i = 0; i < json_array_size(argv); i++) {
        sb_buf_puts(&text, i ? " " : "");
        sb_buf_puts(&text, json_string_value(json_array_get(argv, i)));
    }
    return sb_buf_steal(&text);
}

static void print_steps(const json_t *steps)
{
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        SB_CLEANUP(free) char *words = join_words(json_object_get(step, "argv"));
        const char *what = sb_json_str(step, "command");
        what = what ? what : sb_json_str(step, "path");
        print_of_kit(sb_json_str(step, "phase"), step, what ? what : words);
    }
}

void cli_print_plan(const json_t *plan)
{
    print_rules("allow", json_object_get(plan, "allow"));
    print_rules("deny", json_object_get(plan, "deny"));
    print_volumes(json_object_get(plan, "volumes"));
    print_credentials(json_object_get(plan, "credentials"));
    print_environment(json_object_get(plan, "env"));
    print_steps(json_object_get(plan, "steps"));
}
