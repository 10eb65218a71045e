/* SPDX-License-Identifier: Apache-2.0
 * sbx settings: what a person sets once for all sandboxes.
 *
 * A key is a row of the table below; whoever uses its value finds it with settings_load(). */
#include "cli/settings.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/msg.h"
#include "base/nearest.h"
#include "base/text.h"
#include "cli/read_value.h"
#include "sandbox/client.h"
#include "settings/no_proxy.h"
#include "settings/proxy_url.h"
#include "settings/store.h"
#include "settings/upstream_choice.h"
#include "vm/isolation.h"

struct setting {
    const char *key;
    const char *value; /* what is written: "URL" */
    const char *what;
    bool secret; /* may hold a password, which must not be an argument */
    /* Checks the word and makes of it what is stored. */
    int (*read)(const char *word, json_t **ret, struct sb_err **err);
    /* What is stored, for people; the caller frees. */
    char *(*show)(const json_t *stored);
};

static int read_upstream(const char *word, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(proxy_url) struct proxy_url url = {0};
    int r = proxy_url_parse(word, &url, err);
    *ret = r < 0 ? NULL : json_string(word);
    return r;
}

static char *show_upstream(const json_t *stored)
{
    return proxy_url_masked(json_string_value(stored));
}

static int read_no_proxy(const char *word, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(err) struct sb_err *fault = NULL;
    no_proxy_free(no_proxy_new(word, &fault));
    *ret = fault ? NULL : json_string(word);
    if (fault && err) {
        *err = sb_steal(&fault);
    }
    return *ret ? 0 : SB_EUSAGE;
}

static int read_isolation(const char *word, json_t **ret, struct sb_err **err)
{
    if (!isolation_word(word)) {
        return sb_fail(err, SB_EUSAGE, "'%s': expected auto, vm or ns", word);
    }
    *ret = json_string(word);
    return 0;
}

static char *show_text(const json_t *stored)
{
    return sb_xstrdup(json_string_value(stored));
}

static const struct setting settings[] = {
    {SETTING_UPSTREAM, "URL", "what all connections go through", true, read_upstream,
     show_upstream},
    {SETTING_NO_PROXY, "LIST", "hosts that are reached without it", false, read_no_proxy,
     show_text},
    {SETTING_EXTRA_CA, "FILE", "certificates that are trusted as well", false, settings_read_ca,
     settings_show_ca},
    {SETTING_ISOLATION, "KIND", "auto, vm or ns: what new sandboxes are", false, read_isolation,
     show_text},
};

static int find(const char *key, const struct setting **ret, struct sb_err **err)
{
    const char *keys[SB_ARRAY_LEN(settings)];
    for (size_t i = 0; i < SB_ARRAY_LEN(settings); i++) {
        keys[i] = settings[i].key;
        if (strcmp(settings[i].key, key) == 0) {
            *ret = &settings[i];
            return 0;
        }
    }
    const char *nearest = sb_nearest(key, keys, SB_ARRAY_LEN(settings));
    sb_fail(err, SB_EUSAGE, "there is no setting '%s'", key);
    if (nearest) {
        sb_hint(err, "did you mean '%s'?", nearest);
    } else {
        sb_hint(err, "'sbx settings ls' lists them");
    }
    return SB_EUSAGE;
}

static int tell_sandboxes(struct sb_err **err)
{
    int r = sandbox_reload(NULL, err);
    return r < 0 ? sb_wrap(err, r, "this is stored, but a running sandbox keeps what it had") : 0;
}

/* ---- ls and get ---- */

/* The value that holds, or NULL, and where it is from: a variable may stand above a setting. */
static char *effective(const struct setting *setting, const json_t *all, const char **ret_from)
{
    const json_t *stored = json_object_get(all, setting->key);
    const char *variable = NULL;
    if (strcmp(setting->key, SETTING_UPSTREAM) == 0) {
        SB_CLEANUP(json) json_t *environment = upstream_environment();
        SB_CLEANUP(free) char *shown = upstream_shown(all, environment, &variable);
        if (shown && strcmp(variable, SETTING_UPSTREAM) != 0) {
            *ret_from = variable;
            return sb_steal(&shown);
        }
    }
    *ret_from = stored ? "setting" : "default";
    return stored ? setting->show(stored) : NULL;
}

static void print_rows(const json_t *rows)
{
    static const char *const headers[] = {"KEY", "VALUE", "FROM", NULL};
    struct cli_table *table = cli_table_new(headers);
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        const char *value = sb_json_str(row, "value");
        const char *const cells[] = {sb_json_str(row, "key"), value ? value : "-",
                                     sb_json_str(row, "from"), NULL};
        cli_table_row(table, cells);
    }
    cli_table_print(table);
}

int cmd_settings_ls(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    (void)ret_status;
    cli_guard_memory();
    SB_CLEANUP(json) json_t *all = NULL;
    SB_CLEANUP(json) json_t *rows = json_array();
    int r = settings_load(&all, err);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(settings); i++) {
        const char *from = NULL;
        SB_CLEANUP(free) char *value = effective(&settings[i], all, &from);
        json_array_append_new(rows, json_pack("{s:s,s:s?,s:s,s:s}", "key", settings[i].key, "value",
                                              value, "from", from, "what", settings[i].what));
    }
    if (cli_bool(args, "json")) {
        json_dumpf(rows, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
    } else {
        print_rows(rows);
    }
    return 0;
}

int cmd_settings_get(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    cli_guard_memory();
    const struct setting *setting = NULL;
    SB_CLEANUP(json) json_t *all = NULL;
    int r = find(args->words[0], &setting, err);
    r = r < 0 ? r : settings_load(&all, err);
    if (r < 0) {
        return r;
    }
    const json_t *stored = json_object_get(all, setting->key);
    if (!stored) {
        *ret_status = 1;
        return 0;
    }
    SB_CLEANUP(free) char *value = setting->show(stored);
    SB_CLEANUP(free) char *safe = sb_printable(value, "");
    puts(safe);
    return 0;
}

/* ---- set and rm ---- */

/* A password among the arguments is in the shell's history, and in the list of processes. */
static int refuse_argument(const struct setting *setting, const char *word, struct sb_err **err)
{
    SB_CLEANUP(free) char *masked = proxy_url_masked(word);
    if (!setting->secret || strcmp(masked, word) == 0) {
        return 0;
    }
    sb_fail(err, SB_EUSAGE,
            "a %s with a password is not taken from the command line, where others "
            "see it",
            setting->value);
    sb_hint(err, "leave it out: 'sbx settings set %s' asks for it, or reads standard input",
            setting->key);
    return SB_EUSAGE;
}

static int store(const struct setting *setting, const char *word, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *value = NULL;
    SB_CLEANUP(json) json_t *text = json_string(word);
    bool was_set;
    int r = text ? setting->read(word, &value, err)
                 : sb_fail(err, SB_EUSAGE, "the value is not UTF-8 text");
    r = r < 0 ? r : settings_change(setting->key, value, &was_set, err);
    if (r < 0) {
        return sb_wrap(err, r, "%s", setting->key);
    }
    SB_CLEANUP(free) char *shown = setting->show(value);
    SB_CLEANUP(free) char *safe = sb_printable(shown, "");
    printf("%s: %s\n", setting->key, safe);
    return tell_sandboxes(err);
}

int cmd_settings_set(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    (void)ret_status;
    cli_guard_memory();
    const struct setting *setting = NULL;
    int r = find(args->words[0], &setting, err);
    if (r == 0 && args->nwords == 2) {
        r = refuse_argument(setting, args->words[1], err);
        return r < 0 ? r : store(setting, args->words[1], err);
    }
    SB_CLEANUP(wipe) struct sb_buf value;
    sb_buf_init(&value, CLI_VALUE_MAX + 2);
    r = r < 0 ? r : cli_read_value(setting->key, &value, err);
    if (r == 0 && memchr(value.data ? value.data : "", '\0', value.len)) {
        r = sb_fail(err, SB_EUSAGE, "%s: the value holds a NUL byte", setting->key);
    }
    return r < 0 ? r : store(setting, value.data ? value.data : "", err);
}

int cmd_settings_rm(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    (void)ret_status;
    cli_guard_memory();
    const struct setting *setting = NULL;
    bool was_set = false;
    int r = find(args->words[0], &setting, err);
    r = r < 0 ? r : settings_change(setting->key, NULL, &was_set, err);
    if (r == 0 && !was_set) {
        r = sb_fail(err, SB_ENOTFOUND, "%s is not set", setting->key);
    }
    return r < 0 ? r : tell_sandboxes(err);
}
