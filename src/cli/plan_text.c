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

/* ---- what the words say ---- */

static json_t *plain_mounts(const json_t *mounts)
{
    json_t *plain = json_array();
    size_t i;
    const json_t *mount;
    json_array_foreach(mounts, i, mount)
    {
        bool read_only = json_is_true(json_object_get(mount, "read_only"));
        json_array_append_new(plain, json_pack("{s:s*,s:b}", "path", sb_json_str(mount, "path"),
                                               "read_only", read_only));
    }
    return plain;
}

static json_t *names_of(json_t *env)
{
    json_t *names = json_array();
    const char *name;
    json_t *value;
    json_object_foreach(env, name, value)
    {
        json_array_append_new(names, json_string(name));
    }
    return names;
}

json_t *cli_whole_plan(const json_t *config, const char *const *argv, bool exists)
{
    static const char *const as_they_are[] = {"name", "workspace", "isolation", "publish"};
    static const char *const limits[] = {"memory_bytes", "cpus", "pids"};
    json_t *whole = json_object();
    json_object_update(whole, json_object_get(config, "plan"));
    json_object_set_new(whole, "exists", json_boolean(exists));
    for (size_t i = 0; i < SB_ARRAY_LEN(as_they_are); i++) {
        json_object_set(whole, as_they_are[i], json_object_get(config, as_they_are[i]));
    }
    json_t *limited = json_object();
    for (size_t i = 0; i < SB_ARRAY_LEN(limits); i++) {
        json_object_set(limited, limits[i], json_object_get(config, limits[i]));
    }
    json_object_set_new(whole, "limits", limited);
    json_object_set_new(whole, "mounts", plain_mounts(json_object_get(config, "mounts")));
    json_object_set_new(whole, "env_names", names_of(json_object_get(config, "env")));
    if (argv) {
        json_t *command = json_array();
        for (size_t i = 0; argv[i]; i++) {
            json_t *word = json_string(argv[i]);
            json_array_append_new(command, word ? word : json_string("?")); /* no UTF-8 text */
        }
        json_object_set_new(whole, "command", command);
    }
    return whole;
}

static void print_path(const json_t *mount)
{
    kit_print_text(sb_json_str(mount, "path"));
    puts(json_is_true(json_object_get(mount, "read_only")) ? " (read-only)" : "");
}

static void print_paths(const json_t *whole)
{
    const json_t *mounts = json_object_get(whole, "mounts"), *mount;
    const char *workspace = sb_json_str(whole, "workspace");
    size_t i;
    printf("sandbox %s: agent %s, workspace ", sb_json_str(whole, "name"),
           sb_json_str(whole, "agent"));
    json_array_foreach(mounts, i, mount)
    {
        if (strcmp(sb_json_str(mount, "path"), workspace) == 0) {
            print_path(mount);
        }
    }
    json_array_foreach(mounts, i, mount)
    {
        if (strcmp(sb_json_str(mount, "path"), workspace) != 0) {
            printf("  %-8s ", "path");
            print_path(mount);
        }
    }
}

/* As the flags are written. */
static void print_limits(const json_t *limits)
{
    json_int_t memory = sb_json_int(limits, "memory_bytes", 0), gib = 1 << 30, mib = 1 << 20;
    bool round = memory % gib == 0;
    double cpus = json_number_value(json_object_get(limits, "cpus"));
    printf("  %-8s memory %lld%c, cpus ", "limits", (long long)(memory / (round ? gib : mib)),
           round ? 'g' : 'm');
    if (cpus > 0) {
        printf("%g", cpus);
    } else {
        printf("all");
    }
    printf(", pids %lld\n", (long long)sb_json_int(limits, "pids", 0));
}

static void print_published(const json_t *publish)
{
    size_t i;
    const json_t *port;
    json_array_foreach(publish, i, port)
    {
        int host_port = (int)sb_json_int(port, "host_port", 0);
        SB_CLEANUP(free) char *chosen = sb_xasprintf("%d", host_port);
        printf("  %-8s %s:%s->%d/tcp\n", "publish", sb_json_str(port, "host_ip"),
               host_port ? chosen : "(a free port)", (int)sb_json_int(port, "port", 0));
    }
}

static void print_words(const json_t *whole)
{
    print_paths(whole);
    printf("  %-8s %s\n", "isolation", sb_json_str(whole, "isolation"));
    print_limits(json_object_get(whole, "limits"));
    print_published(json_object_get(whole, "publish"));
    const json_t *names = json_object_get(whole, "env_names"), *name;
    size_t i;
    json_array_foreach(names, i, name)
    {
        printf("  %-8s %s (its value is not shown)\n", "env", json_string_value(name));
    }
    const json_t *command = json_object_get(whole, "command");
    if (command) {
        SB_CLEANUP(free) char *words = join_words(command);
        printf("  %-8s ", "command");
        kit_print_text(words);
        putchar('\n');
    }
}

void cli_print_plan(const json_t *whole)
{
    if (json_is_true(json_object_get(whole, "exists"))) {
        printf("'%s' is there already, and 'sbx run' would go back to it; it was made so:\n",
               sb_json_str(whole, "name"));
    }
    print_words(whole);
    print_rules("allow", json_object_get(whole, "allow"));
    print_rules("deny", json_object_get(whole, "deny"));
    print_volumes(json_object_get(whole, "volumes"));
    print_credentials(json_object_get(whole, "credentials"));
    print_environment(json_object_get(whole, "env"));
    print_steps(json_object_get(whole, "steps"));
}
