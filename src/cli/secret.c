/* SPDX-License-Identifier: Apache-2.0
 * sbx secret: storing secrets without ever showing one. */
#include "cli/secret.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/msg.h"
#include "base/nearest.h"
#include "base/wipe.h"
#include "cli/read_value.h"
#include "sandbox/client.h"
#include "secret/secret.h"
#include "secret/services.h"

const struct cli_flag cli_flags_secret_set[] = {
    {"global", 'g', CLI_BOOL, NULL, "For every sandbox"},
    {"token", 't', CLI_STRING, "VALUE", "The value (others see it in the list of processes)"},
    {"force", 'f', CLI_BOOL, NULL, "Replace a value that is already stored"},
    {"scrub", 0, CLI_BOOL, NULL, "Take the value out of what its hosts answer"},
    {0},
};
const struct cli_flag cli_flags_secret_set_custom[] = {
    {"global", 'g', CLI_BOOL, NULL, "For every sandbox"},
    {"env", 0, CLI_STRING, "NAME", "Variable that holds the placeholder inside"},
    {"placeholder", 0, CLI_STRING, "TEXT", "Its form; {rand} becomes random digits"},
    {"host", 0, CLI_LIST, "HOST", "HOST[:PORT] that gets the value"},
    {"path", 0, CLI_LIST, "GLOB", "Only in requests for a path: /api/**"},
    {"method", 0, CLI_LIST, "METHOD", "Only in requests with this method"},
    {"preset", 0, CLI_STRING, "NAME", "As this service wants it: git, github, gitlab, ..."},
    {"scheme", 0, CLI_STRING, "SCHEME", "As Authorization: bearer or basic"},
    {"username", 0, CLI_STRING, "NAME", "User name of basic"},
    {"header", 0, CLI_STRING, "NAME", "In this field"},
    {"format", 0, CLI_STRING, "TEXT", "Value of the field; %s becomes the secret"},
    {"mode", 0, CLI_STRING, "MODE", "overwrite, if-absent or placeholder"},
    {"in-url", 0, CLI_BOOL, NULL, "Replace the placeholder in path and query, too"},
    {"in-body", 0, CLI_BOOL, NULL, "Replace the placeholder in bodies, too"},
    {"strip-cookies", 0, CLI_BOOL, NULL, "Send no cookies beside the secret"},
    {"scrub", 0, CLI_BOOL, NULL, "Take the value out of what its hosts answer"},
    {"add", 0, CLI_BOOL, NULL, "Add to the rules of the secret that is stored"},
    {"value", 0, CLI_STRING, "VALUE", "The value (others see it in the list of processes)"},
    {"value-stdin", 0, CLI_BOOL, NULL, "Read the value from standard input"},
    {0},
};
const struct cli_flag cli_flags_secret_ls[] = {
    {"global", 'g', CLI_BOOL, NULL, "Only those for every sandbox"},
    {"service", 0, CLI_STRING, "SERVICE", "Only this service or variable"},
    {"json", 0, CLI_BOOL, NULL, "Print a JSON array"},
    {0},
};
const struct cli_flag cli_flags_secret_rm[] = {
    {"global", 'g', CLI_BOOL, NULL, "Of the secrets for every sandbox"},
    {"host", 0, CLI_STRING, "HOST", "Custom secrets of this host"},
    {"force", 'f', CLI_BOOL, NULL, "Do not ask, and no error when there is none"},
    {0},
};

/* Of a command that keeps a value: the word too many may be just that, and is not repeated. */
static int refuse_value(struct sb_err **err)
{
    sb_fail(err, SB_EUSAGE, "one word too many: the value is none of the words");
    sb_hint(err, "it is read from standard input, or asked for at a terminal");
    return SB_EUSAGE;
}

/* The scope that -g or the first word names.  *ret_used is how many words that took. */
static int take_scope(const struct cli_args *args, size_t most_words, bool keeps_value,
                      const char **ret_sandbox, size_t *ret_used, struct sb_err **err)
{
    size_t used = cli_bool(args, "global") ? 0 : 1;
    if (args->nwords < used) {
        sb_fail(err, SB_EUSAGE, "'sbx %s' needs a scope", args->command->path);
        sb_hint(err, "name a sandbox, or give -g for every sandbox");
        return SB_EUSAGE;
    }
    if (args->nwords > used + most_words && keeps_value) {
        return refuse_value(err);
    }
    if (args->nwords > used + most_words) {
        return sb_fail(err, SB_EUSAGE, "unexpected word '%s': %s", args->words[used + most_words],
                       used ? "the first word is the sandbox" : "with -g no sandbox is named");
    }
    if (used && !sandbox_name_valid(args->words[0])) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not the name of a sandbox", args->words[0]);
    }
    *ret_sandbox = used ? args->words[0] : NULL;
    *ret_used = used;
    return 0;
}

/* Takes a value from the command line and blanks it there, for those who list processes later. */
static void take_argument(const char *argument, struct sb_buf *value)
{
    sb_buf_puts(value, argument);
    explicit_bzero((char *)(uintptr_t)argument, strlen(argument));
}

/* The secret is stored already: a sandbox that cannot be told gets it when it next starts. */
static void tell_sandboxes(const char *sandbox)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (sandbox_reload(sandbox, &err) < 0 && err) {
        fprintf(stderr,
                "sbx: warning: stored, but a running sandbox still uses the old value: %s\n",
                err->message);
    }
}

/* A secret may be stored before its sandbox is made; so may one under a mistyped name. */
static void note_missing(const char *sandbox)
{
    SB_CLEANUP(json) json_t *config = NULL;
    if (sandbox && sandbox_load(sandbox, &config, NULL) == SB_ENOTFOUND) {
        fprintf(stderr, "note: there is no sandbox '%s' yet: one of that name will have it\n",
                sandbox);
    }
}

static bool kit_names(const json_t *config, const char *service)
{
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(json_object_get(config, "plan"), "credentials"), i, item)
    {
        const char *named = sb_json_str(item, "service");
        if (named && strcmp(named, service) == 0) {
            return true;
        }
    }
    return false;
}

/* A kit to come may name it; so would nobody a mistyped one. */
static void note_unknown(const char *sandbox, const char *service)
{
    SB_CLEANUP(json) json_t *config = NULL;
    if (sandbox) {
        sandbox_load(sandbox, &config, NULL);
    }
    if (secret_service_find(service) || kit_names(config, service)) {
        return;
    }
    size_t count = 0;
    for (const struct secret_service *known = secret_services; known->id; known++) {
        count++;
    }
    SB_CLEANUP(free) const char **ids = sb_xcalloc(count, sizeof(*ids));
    for (size_t i = 0; i < count; i++) {
        ids[i] = secret_services[i].id;
    }
    const char *near = sb_nearest(service, ids, count);
    fprintf(stderr, "note: '%s' is no service that sbx knows: it is used by kits that name it",
            service);
    if (near) {
        fprintf(stderr, "; did you mean '%s'?", near);
    }
    fputc('\n', stderr);
}

static bool matches(const json_t *entry, const char *scope, const char *type, const char *name)
{
    const char *its_scope = sb_json_str(entry, "scope"), *its_type = sb_json_str(entry, "type");
    const char *its_name = sb_json_str(entry, "name");
    return its_scope && its_type && its_name && (!scope || strcmp(scope, its_scope) == 0) &&
           (!type || strcmp(type, its_type) == 0) && (!name || strcmp(name, its_name) == 0);
}

static int refuse_overwrite(const char *sandbox, const char *service, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *list = NULL;
    int r = secret_list(sandbox, &list, err);
    if (r < 0) {
        return r;
    }
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry)
    {
        if (matches(entry, sandbox ? sandbox : SECRET_SCOPE_GLOBAL, "service", service)) {
            sb_fail(err, SB_EEXIST, "a secret for '%s' is stored already (%s)", service,
                    sandbox ? sandbox : "global");
            sb_hint(err, "give --force to replace it");
            return SB_EEXIST;
        }
    }
    return 0;
}

/* "set github VALUE", where -g was forgotten, would keep the value as the name of a service. */
static int refuse_service_as_scope(const char *sandbox, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *config = NULL;
    if (!sandbox || !secret_service_find(sandbox) ||
        sandbox_load(sandbox, &config, NULL) != SB_ENOTFOUND) {
        return 0;
    }
    sb_fail(err, SB_EUSAGE, "'%s' is a service, and there is no sandbox of that name", sandbox);
    sb_hint(err, "'sbx secret set -g %s' reads the value from standard input, or asks for it",
            sandbox);
    return SB_EUSAGE;
}

int cmd_secret_set(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    cli_guard_memory();
    SB_CLEANUP(wipe) struct sb_buf value;
    sb_buf_init(&value, CLI_VALUE_MAX + 2);
    const char *token = cli_string(args, "token");
    if (token) {
        take_argument(token, &value);
    }
    const char *sandbox = NULL;
    size_t used = 0;
    int r = take_scope(args, 1, true, &sandbox, &used, err);
    if (r < 0) {
        return r;
    }
    if (args->nwords == used) {
        sb_fail(err, SB_EUSAGE, "'sbx secret set' needs the service that the secret is for");
        sb_hint(err,
                sandbox
                    ? "'sbx secret set -g %s' is for every sandbox, 'sbx secret set SANDBOX %s' "
                      "for one"
                    : "for example: sbx secret set -g github",
                sandbox, sandbox);
        return SB_EUSAGE;
    }
    const char *service = args->words[used];
    r = refuse_service_as_scope(sandbox, err);
    if (r == 0 && !cli_bool(args, "force")) {
        r = refuse_overwrite(sandbox, service, err);
    }
    if (r == 0 && !token) {
        r = cli_read_value(service, &value, err);
    }
    if (r == 0) {
        r = secret_set(sandbox, service, value.data ? value.data : "", value.len,
                       cli_bool(args, "scrub"), err);
    }
    if (r < 0) {
        return r;
    }
    note_missing(sandbox);
    note_unknown(sandbox, service);
    tell_sandboxes(sandbox);
    *ret_status = 0;
    return 0;
}

static void read_custom(const struct cli_args *args, struct secret_custom *ret)
{
    *ret = (struct secret_custom){.env = cli_string(args, "env"),
                                  .placeholder = cli_string(args, "placeholder"),
                                  .preset = cli_string(args, "preset"),
                                  .mode = cli_string(args, "mode"),
                                  .scheme = cli_string(args, "scheme"),
                                  .username = cli_string(args, "username"),
                                  .header = cli_string(args, "header"),
                                  .format = cli_string(args, "format"),
                                  .in_url = cli_bool(args, "in-url"),
                                  .in_body = cli_bool(args, "in-body"),
                                  .strip_cookies = cli_bool(args, "strip-cookies"),
                                  .scrub = cli_bool(args, "scrub")};
    ret->hosts = cli_list(args, "host", &ret->nhosts);
    ret->paths = cli_list(args, "path", &ret->npaths);
    ret->methods = cli_list(args, "method", &ret->nmethods);
}

static int check_custom(const struct cli_args *args, const struct secret_custom *custom,
                        struct sb_err **err)
{
    bool given = cli_string(args, "value") != NULL, piped = cli_bool(args, "value-stdin");
    if (!custom->env || (!custom->nhosts && !custom->preset)) {
        return sb_fail(err, SB_EUSAGE, "'sbx secret set-custom' needs --%s",
                       custom->env ? "host HOST" : "env NAME");
    }
    if (given && piped) {
        return sb_fail(err, SB_EUSAGE, "--value and --value-stdin exclude each other");
    }
    if (cli_bool(args, "add") && (given || piped || custom->placeholder || custom->scrub)) {
        return sb_fail(err, SB_EUSAGE,
                       "--add leaves the secret as it is: it takes no value, --placeholder or "
                       "--scrub");
    }
    return 0;
}

/* Stores what the value says, or only its rules with --add. */
static int store_custom(const struct cli_args *args, const char *sandbox,
                        const struct secret_custom *custom, struct sb_buf *value,
                        struct sb_err **err)
{
    SB_CLEANUP(free) char *placeholder = NULL;
    int r;
    if (cli_bool(args, "add")) {
        r = secret_add_rules(sandbox, custom, &placeholder, err);
    } else {
        if (cli_string(args, "value")) {
            fputs("note: --value shows the secret in the shell's history and the list of "
                  "processes; --value-stdin does not\n",
                  stderr);
        }
        r = cli_string(args, "value") ? 0 : cli_read_value(custom->env, value, err);
        r = r < 0 ? r
                  : secret_set_custom(sandbox, custom, value->data ? value->data : "", value->len,
                                      &placeholder, err);
    }
    if (r < 0) {
        return r;
    }
    puts(placeholder);
    note_missing(sandbox);
    tell_sandboxes(sandbox);
    return 0;
}

int cmd_secret_set_custom(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    cli_guard_memory();
    SB_CLEANUP(wipe) struct sb_buf value;
    sb_buf_init(&value, CLI_VALUE_MAX + 2);
    const char *given = cli_string(args, "value");
    if (given) {
        take_argument(given, &value);
    }
    struct secret_custom custom;
    read_custom(args, &custom);
    const char *sandbox = NULL;
    size_t used = 0;
    int r = take_scope(args, 0, true, &sandbox, &used, err);
    r = r < 0 ? r : check_custom(args, &custom, err);
    r = r < 0 ? r : store_custom(args, sandbox, &custom, &value, err);
    if (r == 0) {
        *ret_status = 0;
    }
    return r;
}

/* "NAME for HOST, HOST": each host once. */
static char *title_of(const json_t *entry)
{
    struct sb_buf title;
    sb_buf_init(&title, 4096);
    sb_buf_puts(&title, sb_json_str(entry, "name"));
    const json_t *rules = json_object_get(entry, "rules");
    SB_CLEANUP(json) json_t *seen = json_object();
    size_t i;
    const json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        const char *host = sb_json_str(rule, "host");
        if (host && !json_object_get(seen, host)) {
            sb_buf_printf(&title, "%s%s", json_object_size(seen) ? ", " : " for ", host);
            json_object_set_new(seen, host, json_true());
        }
    }
    return sb_buf_steal(&title);
}

static void print_list(const json_t *list)
{
    static const char *const headers[] = {"SCOPE", "TYPE", "NAME", "SECRET", NULL};
    struct cli_table *table = cli_table_new(headers);
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry)
    {
        SB_CLEANUP(free) char *name = title_of(entry);
        const char *const cells[] = {sb_json_str(entry, "scope"), sb_json_str(entry, "type"), name,
                                     sb_json_str(entry, "masked"), NULL};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
}

int cmd_secret_ls(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    cli_guard_memory();
    const char *sandbox = args->nwords ? args->words[0] : NULL;
    if (sandbox && cli_bool(args, "global")) {
        return sb_fail(err, SB_EUSAGE, "-g and the sandbox '%s' exclude each other", sandbox);
    }
    SB_CLEANUP(json) json_t *list = NULL;
    SB_CLEANUP(json) json_t *config = NULL;
    int r = secret_list(sandbox, &list, err);
    if (r == 0 && sandbox && json_array_size(list) == 0) {
        r = sandbox_load(sandbox, &config, err); /* secrets may come before it, a typo has none */
    }
    if (r < 0) {
        return r;
    }
    const char *scope = cli_bool(args, "global") ? SECRET_SCOPE_GLOBAL : NULL;
    for (size_t i = json_array_size(list); i-- > 0;) {
        if (!matches(json_array_get(list, i), scope, NULL, cli_string(args, "service"))) {
            json_array_remove(list, i);
        }
    }
    if (cli_bool(args, "json")) {
        json_dumpf(list, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
    } else {
        print_list(list);
    }
    *ret_status = 0;
    return 0;
}

/* Asks before everything of a scope goes; who cannot be asked must give -f. */
static int confirm_all(const char *sandbox, struct sb_err **err)
{
    if (!isatty(STDIN_FILENO)) {
        sb_fail(err, SB_EUSAGE, "no service and no --host: that would remove every secret (%s)",
                sandbox ? sandbox : "global");
        sb_hint(err, "name the service: sbx secret rm %s SERVICE; --force removes all of them",
                sandbox ? "-g|SANDBOX" : "-g");
        return SB_EUSAGE;
    }
    fprintf(stderr, "Remove every secret of %s? [y/N] ", sandbox ? sandbox : "the global scope");
    char answer[16];
    if (!fgets(answer, sizeof(answer), stdin) || (answer[0] != 'y' && answer[0] != 'Y')) {
        return sb_fail(err, SB_EFAIL, "nothing was removed");
    }
    return 0;
}

int cmd_secret_rm(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    cli_guard_memory();
    const char *sandbox = NULL;
    size_t used = 0;
    int r = take_scope(args, 1, false, &sandbox, &used, err);
    if (r < 0) {
        return r;
    }
    const char *service = args->nwords > used ? args->words[used] : NULL;
    const char *host = cli_string(args, "host");
    bool force = cli_bool(args, "force");
    if (!service && !host && !force) {
        r = confirm_all(sandbox, err);
    }
    size_t removed = 0;
    if (r == 0) {
        r = secret_remove(sandbox, service, host, &removed, err);
    }
    if (r < 0) {
        return r;
    }
    if (!removed && !force) {
        sb_fail(err, SB_ENOTFOUND, "no such secret%s%s%s%s (%s)", service ? ": " : "",
                service ? service : "", host ? " for host " : "", host ? host : "",
                sandbox ? sandbox : "global");
        sb_hint(err, "'sbx secret ls' lists what is stored");
        return SB_ENOTFOUND;
    }
    tell_sandboxes(sandbox);
    *ret_status = 0;
    return 0;
}
