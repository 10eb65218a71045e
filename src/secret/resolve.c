/* SPDX-License-Identifier: Apache-2.0
 * From a plan's credentials and the stored secrets to what the proxy injects and the sandbox sees.
 */
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/msg.h"
#include "secret/secret.h"
#include "secret/services.h"
#include "secret/source.h"
#include "secret/store.h"

#define SENTINEL "proxy-managed"

static inline void sb_cleanup_wipe(struct sb_buf *buf)
{
    sb_buf_wipe(buf);
}

struct resolver {
    json_t *scoped, *global; /* the stores */
    json_t *custom;          /* array: those of the sandbox, then global ones not shadowed */
    json_t *inject, *env;    /* the results */
};

static void resolver_done(struct resolver *resolver)
{
    json_decref(resolver->scoped);
    json_decref(resolver->global);
    json_decref(resolver->custom);
    json_decref(resolver->inject);
    json_decref(resolver->env);
}

static inline void sb_cleanup_resolver(struct resolver *resolver)
{
    resolver_done(resolver);
}

static bool same_key(const json_t *a, const json_t *b)
{
    const char *host_a = sb_json_str(a, "host"), *host_b = sb_json_str(b, "host");
    const char *env_a = sb_json_str(a, "env"), *env_b = sb_json_str(b, "env");
    return host_a && host_b && env_a && env_b && strcasecmp(host_a, host_b) == 0 &&
           strcmp(env_a, env_b) == 0;
}

static void add_custom(json_t *all, const json_t *store)
{
    size_t i, j;
    json_t *entry, *other;
    json_array_foreach(json_object_get(store, "custom"), i, entry)
    {
        bool shadowed = false;
        json_array_foreach(all, j, other)
        {
            shadowed = shadowed || same_key(entry, other);
        }
        if (!shadowed && sb_json_str(entry, "host") && sb_json_str(entry, "env") &&
            sb_json_str(entry, "placeholder") && sb_json_str(entry, "value")) {
            json_array_append(all, entry);
        }
    }
}

static bool array_has(const json_t *array, const char *text)
{
    size_t i;
    const json_t *item;
    json_array_foreach(array, i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), text) == 0) {
            return true;
        }
    }
    return false;
}

/* Does this custom secret stand for the value of this credential? */
static bool custom_supplies(const json_t *custom, const json_t *credential)
{
    if (!array_has(json_object_get(credential, "proxy_managed"), sb_json_str(custom, "env"))) {
        return false;
    }
    size_t i;
    const json_t *inject;
    json_array_foreach(json_object_get(credential, "inject"), i, inject)
    {
        const char *domain = sb_json_str(inject, "domain");
        if (domain && strcasecmp(domain, sb_json_str(custom, "host")) == 0) {
            return true;
        }
    }
    return false;
}

static const json_t *stored_value(const struct resolver *resolver, const json_t *credential)
{
    const char *service = sb_json_str(credential, "service");
    const json_t *const stores[] = {resolver->scoped, resolver->global};
    for (size_t i = 0; service && i < SB_ARRAY_LEN(stores); i++) {
        const json_t *value = json_object_get(json_object_get(stores[i], "services"), service);
        if (json_is_string(value)) {
            return value;
        }
    }
    size_t i;
    const json_t *custom;
    json_array_foreach(resolver->custom, i, custom)
    {
        if (custom_supplies(custom, credential)) {
            return json_object_get(custom, "value");
        }
    }
    return NULL;
}

/* A credential that names no source uses the variables known for its service. */
static int host_value(const json_t *credential, struct sb_buf *value, struct sb_err **err)
{
    const json_t *sources = json_object_get(credential, "sources");
    const char *id = sb_json_str(credential, "service");
    bool named = json_array_size(json_object_get(sources, "env")) > 0 ||
                 json_is_object(json_object_get(sources, "file"));
    const struct secret_service *service = named || !id ? NULL : secret_service_find(id);
    return service ? secret_read_env(service->env, SB_ARRAY_LEN(service->env), value, err)
                   : secret_read_sources(sources, value, err);
}

/* *ret is a JSON string or null; *ret_warning says why a source that is there was not used. */
static void credential_value(const struct resolver *resolver, const json_t *credential,
                             json_t **ret, char **ret_warning)
{
    const json_t *stored = stored_value(resolver, credential);
    if (stored) {
        *ret = json_stringn(json_string_value(stored), json_string_length(stored));
        return;
    }
    SB_CLEANUP(wipe) struct sb_buf value;
    sb_buf_init(&value, SECRET_VALUE_MAX);
    SB_CLEANUP(err) struct sb_err *err = NULL;
    int r = host_value(credential, &value, &err);
    if (r < 0) {
        *ret_warning = sb_xstrdup(err->message);
    }
    *ret = r > 0 ? json_stringn(value.data, value.len) : json_null();
}

static const char *text_or(const json_t *object, const char *key, const char *fallback)
{
    const char *text = sb_json_str(object, key);
    return text ? text : fallback;
}

static void add_credential(struct resolver *resolver, const json_t *credential)
{
    const char *service = text_or(credential, "service", "");
    const char *kit = text_or(credential, "kit", "");
    SB_CLEANUP(json) json_t *value = NULL;
    SB_CLEANUP(free) char *warning = NULL;
    credential_value(resolver, credential, &value, &warning);
    size_t i;
    const json_t *rule;
    json_array_foreach(json_object_get(credential, "inject"), i, rule)
    {
        SB_CLEANUP(free) char *id = sb_xasprintf("%s/%s#%zu", kit, service, i + 1);
        json_t *entry = json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:O}", "id", id, "service", service,
            "kit", kit, "domain", text_or(rule, "domain", ""), "header",
            text_or(rule, "header", ""), "format", text_or(rule, "format", "%s"), "username",
            text_or(rule, "username", ""), "mode", "overwrite", "placeholder", "secret", value);
        if (warning) {
            json_object_set_new(entry, "warning", json_string(warning));
        }
        json_array_append_new(resolver->inject, entry);
    }
    const json_t *name;
    json_array_foreach(json_object_get(credential, "proxy_managed"), i, name)
    {
        if (json_is_string(name)) {
            json_object_set_new(resolver->env, json_string_value(name), json_string(SENTINEL));
        }
    }
}

static bool supplies_any(const json_t *custom, const json_t *credentials)
{
    size_t i;
    const json_t *credential;
    json_array_foreach(credentials, i, credential)
    {
        if (custom_supplies(custom, credential)) {
            return true;
        }
    }
    return false;
}

/* `i` numbers the rule; the sandbox's own secrets come first and win a shared variable. */
static void add_placeholder(struct resolver *resolver, const json_t *custom, size_t i,
                            const json_t *credentials)
{
    const char *variable = sb_json_str(custom, "env");
    const char *present = sb_json_str(resolver->env, variable);
    if (!present || strcmp(present, SENTINEL) == 0) {
        json_object_set(resolver->env, variable, json_object_get(custom, "placeholder"));
    }
    if (supplies_any(custom, credentials)) {
        return; /* the credential's rule overwrites the header, whatever stands in it */
    }
    SB_CLEANUP(free) char *service = sb_xasprintf("custom:%s", variable);
    SB_CLEANUP(free) char *id = sb_xasprintf("%s#%zu", service, i + 1);
    json_array_append_new(resolver->inject,
                          json_pack("{s:s, s:s, s:s, s:O, s:s, s:s, s:s, s:s, s:O, s:O}", "id", id,
                                    "service", service, "kit", "", "domain",
                                    json_object_get(custom, "host"), "header", "", "format", "%s",
                                    "username", "", "mode", "placeholder", "placeholder",
                                    json_object_get(custom, "placeholder"), "secret",
                                    json_object_get(custom, "value")));
}

static int load_stores(struct resolver *resolver, const char *sandbox, struct sb_err **err)
{
    int r = secret_store_load(NULL, &resolver->global, err);
    if (r == 0 && sandbox) {
        r = secret_store_load(sandbox, &resolver->scoped, err);
    }
    if (r < 0) {
        return r;
    }
    resolver->custom = json_array();
    add_custom(resolver->custom, resolver->scoped);
    add_custom(resolver->custom, resolver->global);
    return 0;
}

int secret_resolve(const char *sandbox, const json_t *plan, json_t **ret_inject, json_t **ret_env,
                   struct sb_err **err)
{
    SB_CLEANUP(resolver) struct resolver resolver = {0};
    int r = load_stores(&resolver, sandbox, err);
    if (r < 0) {
        return r;
    }
    resolver.inject = json_array();
    resolver.env = json_object();
    const json_t *credentials = json_object_get(plan, "credentials");
    size_t i;
    const json_t *item;
    json_array_foreach(credentials, i, item)
    {
        add_credential(&resolver, item);
    }
    json_array_foreach(resolver.custom, i, item)
    {
        add_placeholder(&resolver, item, i, credentials);
    }
    *ret_inject = sb_steal(&resolver.inject);
    *ret_env = sb_steal(&resolver.env);
    return 0;
}
