/* SPDX-License-Identifier: Apache-2.0
 * Setting, listing and removing stored secrets. */
#include "secret/secret.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "base/buf.h"
#include "base/msg.h"
#include "base/reserved_env.h"
#include "secret/rule.h"
#include "secret/store.h"

enum { PLACEHOLDER_MIN = 8, PLACEHOLDER_MAX = 256, RANDOM_BYTES = 16, SCRUB_MIN = 8 };

static int check_value(const char *what, const char *name, const char *value, size_t len,
                       struct sb_err **err)
{
    const char *problem = secret_value_problem(value, len);
    return problem ? sb_fail(err, SB_EUSAGE, "the value of %s '%s' cannot be used: %s", what, name,
                             problem)
                   : 0;
}

static int check_service(const char *service, struct sb_err **err)
{
    size_t len = strlen(service);
    if (len == 0 || len > 64 || !isalnum((unsigned char)service[0]) ||
        strspn(service, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") !=
            len) {
        return sb_fail(err, SB_EUSAGE,
                       "'%.64s' is not a service id: expected up to 64 letters, digits, '-', '_' "
                       "and '.'",
                       service);
    }
    return 0;
}

struct service_change {
    const char *service, *value;
    size_t len;
    bool scrub;
};

/* A shorter one would be found where it is not. */
static int check_scrub(size_t len, struct sb_err **err)
{
    return len >= SCRUB_MIN ? 0
                            : sb_fail(err, SB_EUSAGE,
                                      "--scrub needs a secret of at least %d characters: a shorter "
                                      "one stands in answers by chance",
                                      SCRUB_MIN);
}

static int change_service(json_t *content, void *arg, struct sb_err **err)
{
    (void)err;
    const struct service_change *change = arg;
    json_object_set_new(json_object_get(content, "services"), change->service,
                        json_stringn(change->value, change->len));
    json_t *scrub = json_object_get(content, "scrub");
    if (change->scrub && !scrub) {
        scrub = json_object();
        json_object_set_new(content, "scrub", scrub);
    }
    if (change->scrub) {
        json_object_set_new(scrub, change->service, json_true());
    } else {
        json_object_del(scrub, change->service);
    }
    return 1;
}

int secret_set(const char *sandbox, const char *service, const char *value, size_t len, bool scrub,
               struct sb_err **err)
{
    int r = check_service(service, err);
    if (r == 0) {
        r = check_value("secret", service, value, len, err);
    }
    if (r == 0 && scrub) {
        r = check_scrub(len, err);
    }
    struct service_change change = {service, value, len, scrub};
    return r < 0 ? r : secret_store_change(sandbox, change_service, &change, err);
}

struct token_change {
    const char *service;
    const json_t *tokens;
};

static int change_tokens(json_t *content, void *arg, struct sb_err **err)
{
    (void)err;
    const struct token_change *change = arg;
    json_t *all = json_object_get(content, "tokens");
    if (!all) {
        all = json_object();
        json_object_set_new(content, "tokens", all);
    }
    json_t *mine = json_object_get(all, change->service);
    if (!mine) {
        mine = json_object();
        json_object_set_new(all, change->service, mine);
    }
    static const char *const names[] = {"access", "refresh"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        json_t *token = json_object_get(change->tokens, names[i]);
        if (token) {
            json_object_set(mine, names[i], token);
        }
    }
    json_int_t seconds = sb_json_int(change->tokens, "expires_in", 0);
    json_object_set_new(mine, "expires_at", json_integer(seconds ? time(NULL) + seconds : 0));
    return 1;
}

int secret_set_tokens(const char *sandbox, const char *service, const json_t *tokens,
                      struct sb_err **err)
{
    static const char *const names[] = {"access", "refresh"};
    int r = check_service(service, err);
    for (size_t i = 0; r == 0 && i < SB_ARRAY_LEN(names); i++) {
        const json_t *token = json_object_get(tokens, names[i]);
        const char *text = json_string_value(token);
        if (token) {
            r = check_value("a sign-in to", service, text ? text : "", json_string_length(token),
                            err);
        }
    }
    struct token_change change = {service, tokens};
    return r < 0 ? r : secret_store_change(sandbox, change_tokens, &change, err);
}

static int check_env(const char *env, struct sb_err **err)
{
    size_t len = strlen(env);
    if (len == 0 || len > 128 || isdigit((unsigned char)env[0]) ||
        strspn(env, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != len) {
        return sb_fail(err, SB_EUSAGE,
                       "'%.128s' is not the name of an environment variable: expected letters, "
                       "digits and '_'",
                       env);
    }
    if (sb_env_is_vital(env)) {
        sb_fail(err, SB_EUSAGE,
                "the variable '%s' belongs to the sandbox: a placeholder in it would break "
                "programs inside",
                env);
        sb_hint(err, "choose the variable from which the program reads its secret");
        return SB_EUSAGE;
    }
    return 0;
}

/* Replaces every {rand} by random digits, the same everywhere in one placeholder. */
static int expand_placeholder(const char *pattern, char **ret, struct sb_err **err)
{
    unsigned char random[RANDOM_BYTES];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return sb_fail_errno(err, errno, "random bytes for a placeholder");
    }
    char digits[2 * RANDOM_BYTES + 1];
    for (size_t i = 0; i < sizeof(random); i++) {
        snprintf(digits + 2 * i, 3, "%02x", random[i]);
    }
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, PLACEHOLDER_MAX);
    for (const char *p = pattern; *p && !out.overflow;) {
        if (strncmp(p, "{rand}", 6) == 0) {
            sb_buf_puts(&out, digits);
            p += 6;
        } else if (*p > ' ' && *p < 0x7f) {
            sb_buf_append(&out, p++, 1);
        } else {
            return sb_fail(err, SB_EUSAGE,
                           "the placeholder may hold only visible ASCII characters");
        }
    }
    if (out.overflow || out.len < PLACEHOLDER_MIN) {
        return sb_fail(err, SB_EUSAGE, "the placeholder must have %d to %d characters",
                       PLACEHOLDER_MIN, PLACEHOLDER_MAX);
    }
    *ret = sb_buf_steal(&out);
    return 0;
}

static bool custom_is(const json_t *entry, const char *host, const char *env)
{
    const char *its_env = sb_json_str(entry, "env");
    return (!host || secret_rules_name(json_object_get(entry, "rules"), host)) &&
           (!env || (its_env && strcmp(env, its_env) == 0));
}

/* The first with this variable, and this host unless it is NULL. */
static json_t *find_custom(const json_t *content, const char *host, const char *env)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(content, "custom"), i, entry)
    {
        if (custom_is(entry, host, env)) {
            return entry;
        }
    }
    return NULL;
}

/* Takes the rules of a host away, or all; true when none is left. */
static bool remove_rules(json_t *entry, const char *host)
{
    json_t *rules = json_object_get(entry, "rules");
    for (size_t i = json_array_size(rules); host && i-- > 0;) {
        const char *its_host = sb_json_str(json_array_get(rules, i), "host");
        if (its_host && strcasecmp(its_host, host) == 0) {
            json_array_remove(rules, i);
        }
    }
    return !host || json_array_size(rules) == 0;
}

static size_t remove_custom(json_t *content, const char *host, const char *env)
{
    json_t *all = json_object_get(content, "custom");
    size_t removed = 0;
    for (size_t i = json_array_size(all); i-- > 0;) {
        if (custom_is(json_array_get(all, i), host, env)) {
            removed++;
            if (remove_rules(json_array_get(all, i), host)) {
                json_array_remove(all, i);
            }
        }
    }
    return removed;
}

struct custom_change {
    const struct secret_custom *custom;
    json_t *rules;
    const char *value; /* NULL: keeps the one that is there */
    size_t len;
    char *placeholder; /* the result */
};

/* The placeholder that was asked for, else the one that running programs may hold already. */
static int choose_placeholder(struct custom_change *change, const json_t *old, struct sb_err **err)
{
    const char *asked = change->custom->placeholder, *kept = sb_json_str(old, "placeholder");
    if (!asked && kept) {
        change->placeholder = sb_xstrdup(kept);
        return 0;
    }
    int r = expand_placeholder(asked ? asked : "sbx-cs-{rand}", &change->placeholder, err);
    if (r == 0 && strlen(change->placeholder) == change->len &&
        memcmp(change->placeholder, change->value, change->len) == 0) {
        return sb_fail(err, SB_EUSAGE, "the placeholder of '%s' is the secret itself",
                       change->custom->env);
    }
    return r;
}

static int change_custom(json_t *content, void *arg, struct sb_err **err)
{
    struct custom_change *change = arg;
    const struct secret_custom *custom = change->custom;
    json_t *old =
        find_custom(content, sb_json_str(json_array_get(change->rules, 0), "host"), custom->env);
    int r = choose_placeholder(change, old, err);
    if (r < 0) {
        return r;
    }
    json_t *rules = old && !secret_custom_shapes(custom) && custom->nhosts <= 1
                        ? json_object_get(old, "rules")
                        : change->rules;
    json_t *entry =
        json_pack("{s:s, s:s, s:s%, s:O}", "env", custom->env, "placeholder", change->placeholder,
                  "value", change->value, change->len, "rules", rules);
    if (custom->scrub) {
        json_object_set_new(entry, "scrub", json_true());
    }
    if (old) {
        json_object_clear(old);
        json_object_update(old, entry);
        json_decref(entry);
    } else {
        json_array_append_new(json_object_get(content, "custom"), entry);
    }
    return 1;
}

int secret_set_custom(const char *sandbox, const struct secret_custom *custom, const char *value,
                      size_t len, char **ret_placeholder, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *rules = NULL;
    int r = check_env(custom->env, err);
    r = r < 0 ? r : secret_rules_make(custom, &rules, err);
    r = r < 0 ? r : check_value("custom secret", custom->env, value, len, err);
    if (r == 0 && custom->scrub) {
        r = check_scrub(len, err);
    }
    if (r < 0) {
        return r;
    }
    struct custom_change change = {custom, rules, value, len, NULL};
    r = secret_store_change(sandbox, change_custom, &change, err);
    if (r == 0) {
        *ret_placeholder = change.placeholder;
    } else {
        free(change.placeholder);
    }
    return r;
}

static int change_add_rules(json_t *content, void *arg, struct sb_err **err)
{
    struct custom_change *change = arg;
    json_t *entry = find_custom(content, NULL, change->custom->env);
    if (!entry) {
        sb_fail(err, SB_ENOTFOUND, "no custom secret '%s' is stored in this scope",
                change->custom->env);
        sb_hint(err, "store it first: the same command without --add reads its value");
        return SB_ENOTFOUND;
    }
    json_array_extend(json_object_get(entry, "rules"), change->rules);
    change->placeholder = sb_xstrdup(sb_json_str(entry, "placeholder"));
    return 1;
}

int secret_add_rules(const char *sandbox, const struct secret_custom *custom,
                     char **ret_placeholder, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *rules = NULL;
    int r = check_env(custom->env, err);
    r = r < 0 ? r : secret_rules_make(custom, &rules, err);
    struct custom_change change = {.custom = custom, .rules = rules};
    r = r < 0 ? r : secret_store_change(sandbox, change_add_rules, &change, err);
    if (r == 0) {
        *ret_placeholder = change.placeholder;
    } else {
        free(change.placeholder);
    }
    return r;
}

/* Enough to tell two long tokens apart, nothing of a short one. */
static json_t *masked(const char *value)
{
    return value && strlen(value) >= 12 ? json_sprintf("%.4s****", value) : json_string("****");
}

static void list_scope(const char *scope, const json_t *content, json_t *out)
{
    const char *service;
    json_t *value;
    json_object_foreach(json_object_get(content, "tokens"), service, value)
    {
        json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:s}", "scope", scope, "type",
                                             "sign-in", "name", service, "masked", "****"));
    }
    json_object_foreach(json_object_get(content, "services"), service, value)
    {
        json_t *mask = masked(json_string_value(value));
        json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:o}", "scope", scope, "type",
                                             "service", "name", service, "masked",
                                             mask ? mask : json_string("****")));
    }
    size_t i;
    json_array_foreach(json_object_get(content, "custom"), i, value)
    {
        json_t *mask = masked(sb_json_str(value, "value"));
        bool scrub = json_is_true(json_object_get(value, "scrub"));
        json_array_append_new(out,
                              json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:O?, s:b, s:o}", "scope",
                                        scope, "type", "custom", "name", sb_json_str(value, "env"),
                                        "env", sb_json_str(value, "env"), "placeholder",
                                        sb_json_str(value, "placeholder"), "rules",
                                        json_object_get(value, "rules"), "scrub", scrub, "masked",
                                        mask ? mask : json_string("****")));
    }
}

static int list_one(const char *sandbox, json_t *out, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *content = NULL;
    int r = secret_store_load(sandbox, &content, err);
    if (r == 0) {
        list_scope(sandbox ? sandbox : SECRET_SCOPE_GLOBAL, content, out);
    }
    return r;
}

int secret_list(const char *sandbox, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *out = json_array();
    int r = list_one(sandbox, out, err);
    SB_CLEANUP(json) json_t *names = NULL;
    if (r == 0 && !sandbox) {
        r = secret_store_sandboxes(&names, err);
    }
    size_t i;
    const json_t *name;
    json_array_foreach(names, i, name)
    {
        r = r == 0 ? list_one(json_string_value(name), out, err) : r;
    }
    if (r == 0) {
        *ret = sb_steal(&out);
    }
    return r;
}

struct removal {
    const char *service, *host;
    size_t removed;
};

static int change_remove(json_t *content, void *arg, struct sb_err **err)
{
    (void)err;
    struct removal *removal = arg;
    json_t *services = json_object_get(content, "services");
    if (!removal->host && removal->service) {
        removal->removed += json_object_del(services, removal->service) == 0;
        removal->removed +=
            json_object_del(json_object_get(content, "tokens"), removal->service) == 0;
        json_object_del(json_object_get(content, "scrub"), removal->service);
    } else if (!removal->host) {
        removal->removed += json_object_size(services);
        removal->removed += json_object_size(json_object_get(content, "tokens"));
        json_object_clear(services);
        json_object_del(content, "tokens");
        json_object_del(content, "scrub");
    }
    removal->removed += remove_custom(content, removal->host, removal->service);
    return removal->removed > 0;
}

int secret_remove(const char *sandbox, const char *service, const char *host, size_t *ret_removed,
                  struct sb_err **err)
{
    struct removal removal = {.service = service, .host = host};
    int r = secret_store_change(sandbox, change_remove, &removal, err);
    if (r == 0) {
        *ret_removed = removal.removed;
    }
    return r;
}

int secret_forget(const char *sandbox, struct sb_err **err)
{
    return secret_store_remove(sandbox, err);
}
