/* SPDX-License-Identifier: Apache-2.0
 * Setting, listing and removing stored secrets. */
#include "secret/secret.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/msg.h"
#include "secret/store.h"

enum { PLACEHOLDER_MIN = 8, PLACEHOLDER_MAX = 256, RANDOM_BYTES = 16, HOST_MAX = 300 };

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
};

static int change_service(json_t *content, void *arg, struct sb_err **err)
{
    (void)err;
    const struct service_change *change = arg;
    json_object_set_new(json_object_get(content, "services"), change->service,
                        json_stringn(change->value, change->len));
    return 1;
}

int secret_set(const char *sandbox, const char *service, const char *value, size_t len,
               struct sb_err **err)
{
    int r = check_service(service, err);
    if (r == 0) {
        r = check_value("secret", service, value, len, err);
    }
    struct service_change change = {service, value, len};
    return r < 0 ? r : secret_store_change(sandbox, change_service, &change, err);
}

static int check_custom(const struct secret_custom *custom, struct sb_err **err)
{
    const char *env = custom->env;
    size_t len = strlen(env);
    if (len == 0 || len > 128 || isdigit((unsigned char)env[0]) ||
        strspn(env, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != len) {
        return sb_fail(err, SB_EUSAGE,
                       "'%.128s' is not the name of an environment variable: expected letters, "
                       "digits and '_'",
                       env);
    }
    len = strlen(custom->host);
    if (len == 0 || len > HOST_MAX ||
        strspn(custom->host,
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:*[]") != len) {
        return sb_fail(err, SB_EUSAGE,
                       "'%.300s' is not a host: expected a name such as 'api.example.com', with "
                       "':port' when needed",
                       custom->host);
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
    const char *its_host = sb_json_str(entry, "host"), *its_env = sb_json_str(entry, "env");
    return (!host || (its_host && strcasecmp(host, its_host) == 0)) &&
           (!env || (its_env && strcmp(env, its_env) == 0));
}

static size_t remove_custom(json_t *content, const char *host, const char *env)
{
    json_t *all = json_object_get(content, "custom");
    size_t removed = 0;
    for (size_t i = json_array_size(all); i-- > 0;) {
        if (custom_is(json_array_get(all, i), host, env)) {
            json_array_remove(all, i);
            removed++;
        }
    }
    return removed;
}

static int change_custom(json_t *content, void *arg, struct sb_err **err)
{
    (void)err;
    json_t *entry = arg;
    remove_custom(content, sb_json_str(entry, "host"), sb_json_str(entry, "env"));
    json_array_append(json_object_get(content, "custom"), entry);
    return 1;
}

int secret_set_custom(const char *sandbox, const struct secret_custom *custom, const char *value,
                      size_t len, char **ret_placeholder, struct sb_err **err)
{
    int r = check_custom(custom, err);
    if (r == 0) {
        r = check_value("custom secret", custom->env, value, len, err);
    }
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *placeholder = NULL;
    r = expand_placeholder(custom->placeholder ? custom->placeholder : "sbx-cs-{rand}",
                           &placeholder, err);
    if (r < 0) {
        return r;
    }
    if (strlen(placeholder) == len && memcmp(placeholder, value, len) == 0) {
        return sb_fail(err, SB_EUSAGE, "the placeholder of '%s' is the secret itself", custom->env);
    }
    SB_CLEANUP(json)
    json_t *entry = json_pack("{s:s, s:s, s:s, s:s%}", "host", custom->host, "env", custom->env,
                              "placeholder", placeholder, "value", value, len);
    r = secret_store_change(sandbox, change_custom, entry, err);
    if (r == 0) {
        *ret_placeholder = sb_steal(&placeholder);
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
        json_array_append_new(
            out,
            json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:o}", "scope", scope, "type", "custom",
                      "name", sb_json_str(value, "env"), "host", sb_json_str(value, "host"), "env",
                      sb_json_str(value, "env"), "placeholder", sb_json_str(value, "placeholder"),
                      "masked", mask ? mask : json_string("****")));
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
    } else if (!removal->host) {
        removal->removed += json_object_size(services);
        json_object_clear(services);
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
