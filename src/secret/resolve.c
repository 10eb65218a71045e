/* SPDX-License-Identifier: Apache-2.0
 * From a plan's credentials and the stored secrets to what the proxy injects and the sandbox sees.
 */
#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/msg.h"
#include "secret/rule.h"
#include "secret/secret.h"
#include "secret/services.h"
#include "secret/source.h"
#include "secret/store.h"

#define SENTINEL "proxy-managed"

struct resolver {
    json_t *scoped, *global; /* the stores */
    json_t *custom;          /* array: those of the sandbox, then global ones not shadowed */
    json_t *inject, *env;    /* the results */
    json_t *own;             /* rules of the user's own secrets: they come first */
};

static void resolver_done(struct resolver *resolver)
{
    json_decref(resolver->scoped);
    json_decref(resolver->global);
    json_decref(resolver->custom);
    json_decref(resolver->inject);
    json_decref(resolver->env);
    json_decref(resolver->own);
}

static inline void sb_cleanup_resolver(struct resolver *resolver)
{
    resolver_done(resolver);
}

/* Do both stand for one variable, and have a host in common? */
static bool same_key(const json_t *a, const json_t *b)
{
    const char *env_a = sb_json_str(a, "env"), *env_b = sb_json_str(b, "env");
    if (!env_a || !env_b || strcmp(env_a, env_b) != 0) {
        return false;
    }
    size_t i;
    const json_t *rule;
    json_array_foreach(json_object_get(a, "rules"), i, rule)
    {
        const char *host = sb_json_str(rule, "host");
        if (host && secret_rules_name(json_object_get(b, "rules"), host)) {
            return true;
        }
    }
    return false;
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
        if (!shadowed && sb_json_str(entry, "env") && sb_json_str(entry, "placeholder") &&
            sb_json_str(entry, "value")) {
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
        if (domain && secret_rules_name(json_object_get(custom, "rules"), domain)) {
            return true;
        }
    }
    return false;
}

/* A stored secret; *ret_scrub: it is taken out of answers. */
static const json_t *stored_service(const struct resolver *resolver, const char *service,
                                    bool *ret_scrub)
{
    const json_t *const stores[] = {resolver->scoped, resolver->global};
    for (size_t i = 0; service && i < SB_ARRAY_LEN(stores); i++) {
        const json_t *value = json_object_get(json_object_get(stores[i], "services"), service);
        if (json_is_string(value)) {
            *ret_scrub |=
                json_is_true(json_object_get(json_object_get(stores[i], "scrub"), service));
            return value;
        }
    }
    return NULL;
}

static const json_t *stored_value(const struct resolver *resolver, const json_t *credential,
                                  bool *ret_scrub)
{
    const json_t *value = stored_service(resolver, sb_json_str(credential, "service"), ret_scrub);
    size_t i;
    const json_t *custom;
    json_array_foreach(resolver->custom, i, custom)
    {
        if (!value && custom_supplies(custom, credential)) {
            *ret_scrub |= json_is_true(json_object_get(custom, "scrub"));
            value = json_object_get(custom, "value");
        }
    }
    return value;
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
                             json_t **ret, bool *ret_scrub, char **ret_warning)
{
    const json_t *stored = stored_value(resolver, credential, ret_scrub);
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

/* An entry for the proxy: `rule` with its owner and its value. */
static json_t *new_entry(const char *id, const char *service, const char *kit, const json_t *rule,
                         json_t *value, bool scrub)
{
    json_t *entry = json_deep_copy(rule);
    json_object_set(entry, "secret", value);
    json_object_set_new(entry, "id", json_string(id));
    json_object_set_new(entry, "service", json_string(service));
    json_object_set_new(entry, "kit", json_string(kit));
    if (json_object_get(entry, "host")) {
        json_object_set(entry, "domain", json_object_get(entry, "host"));
        json_object_del(entry, "host");
    }
    if (scrub) {
        json_object_set_new(entry, "scrub", json_true());
    }
    return entry;
}

/* One rule of a sign-in; `token` is its part of the tokens that are stored, or NULL. */
static void add_token_rule(struct resolver *resolver, const json_t *credential, json_t *rule,
                           const char *token)
{
    const char *service = text_or(credential, "service", "");
    const char *kit = text_or(credential, "kit", "");
    const json_t *stored = json_object_get(
        json_object_get(json_object_get(resolver->scoped, "tokens"), service), token);
    SB_CLEANUP(json) json_t *value = json_is_string(stored) ? json_deep_copy(stored) : json_null();
    SB_CLEANUP(free)
    char *id = sb_xasprintf("%s/%s@%s", kit, service, *token ? token : "sign-in");
    json_array_append_new(resolver->inject,
                          new_entry(id, service, kit, rule, value,
                                    json_is_true(json_object_get(credential, "scrub"))));
    json_decref(rule);
}

/* Sentinels are replaced at the service's hosts, and the answers of its token endpoint captured.
 * Tokens belong to the sandbox that signed in: another could sign in as somebody else. */
static void add_sign_in(struct resolver *resolver, const json_t *credential)
{
    const json_t *oauth = json_object_get(credential, "oauth");
    const json_t *sentinels = json_object_get(oauth, "sentinels");
    const char *host = sb_json_str(oauth, "host"), *path = sb_json_str(oauth, "path");
    if (!host || !path || json_is_true(json_object_get(oauth, "passthrough"))) {
        return;
    }
    add_token_rule(resolver, credential,
                   json_pack("{s:s, s:[s], s:s, s:{s:O, s:O}}", "domain", host, "paths", path,
                             "mode", "capture", "capture", "sentinels", sentinels, "fields",
                             json_object_get(oauth, "fields")),
                   "");
    add_token_rule(resolver, credential,
                   json_pack("{s:s, s:[s], s:s, s:s, s:b, s:O}", "domain", host, "paths", path,
                             "mode", "placeholder", "token", "refresh", "in_body", 1, "placeholder",
                             json_object_get(sentinels, "refresh")),
                   "refresh");
    size_t i;
    const json_t *domain;
    json_array_foreach(json_object_get(oauth, "hosts"), i, domain)
    {
        add_token_rule(resolver, credential,
                       json_pack("{s:O, s:s, s:s, s:O}", "domain", domain, "mode", "placeholder",
                                 "token", "access", "placeholder",
                                 json_object_get(sentinels, "access")),
                       "access");
    }
}

/* SBX_CRED_<SERVICE>_MODE: kits' commands look at it, to tell an agent what it signs in with. */
static void set_mode(struct resolver *resolver, const char *service, const char *mode)
{
    SB_CLEANUP(free) char *name = sb_xasprintf("SBX_CRED_%s_MODE", service);
    for (char *p = name; *p; p++) {
        *p = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
    }
    json_object_set_new(resolver->env, name, json_string(mode));
}

static bool has_signed_in(const struct resolver *resolver, const char *service)
{
    const json_t *tokens = json_object_get(resolver->scoped, "tokens");
    return json_is_string(json_object_get(json_object_get(tokens, service), "access"));
}

static void add_credential(struct resolver *resolver, const json_t *credential)
{
    const char *service = text_or(credential, "service", "");
    const char *kit = text_or(credential, "kit", "");
    SB_CLEANUP(json) json_t *value = NULL;
    SB_CLEANUP(free) char *warning = NULL;
    bool scrub = json_is_true(json_object_get(credential, "scrub"));
    credential_value(resolver, credential, &value, &scrub, &warning);
    bool signs_in = json_is_object(json_object_get(credential, "oauth"));
    set_mode(resolver, service,
             !json_is_null(value)                           ? "apikey"
             : signs_in && has_signed_in(resolver, service) ? "oauth"
                                                            : "none");
    size_t i;
    const json_t *rule;
    json_array_foreach(json_object_get(credential, "inject"), i, rule)
    {
        if (signs_in && json_is_null(value)) {
            break; /* no key: the sign-in is what there is */
        }
        SB_CLEANUP(free) char *id = sb_xasprintf("%s/%s#%zu", kit, service, i + 1);
        json_t *entry = new_entry(id, service, kit, rule, value, scrub);
        json_object_set_new(entry, "placeholder", json_string(SENTINEL));
        if (warning) {
            json_object_set_new(entry, "warning", json_string(warning));
        }
        json_array_append_new(resolver->inject, entry);
    }
    if (signs_in) {
        add_sign_in(resolver, credential);
    }
    const json_t *name;
    json_array_foreach(json_object_get(credential, "proxy_managed"), i, name)
    {
        if (json_is_string(name) && !(signs_in && json_is_null(value))) {
            json_object_set_new(resolver->env, json_string_value(name), json_string(SENTINEL));
        }
    }
}

/* A stored secret of a service that sbx knows and no kit speaks of: its own hosts get it. */
static void add_known(struct resolver *resolver, const struct secret_service *service)
{
    bool scrub = false;
    const json_t *value = stored_service(resolver, service->id, &scrub);
    if (!value) {
        return;
    }
    size_t i = 0;
    for (const struct secret_form *form = service->forms; form->username || form->header; form++) {
        SB_CLEANUP(free) char *id = sb_xasprintf("%s#%zu", service->id, ++i);
        SB_CLEANUP(json) json_t *rule = secret_rule_of_form(form, NULL);
        json_array_append_new(resolver->inject, new_entry(id, service->id, "", rule,
                                                          (json_t *)(uintptr_t)value, scrub));
    }
    set_mode(resolver, service->id, "apikey");
    for (size_t e = 0; i > 0 && service->env[e]; e++) {
        json_object_set_new(resolver->env, service->env[e], json_string(SENTINEL));
    }
}

static bool is_declared(const json_t *credentials, const char *id)
{
    size_t i;
    const json_t *credential;
    json_array_foreach(credentials, i, credential)
    {
        if (strcmp(text_or(credential, "service", ""), id) == 0) {
            return true;
        }
    }
    return false;
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

/* The sandbox's own secrets come first and win a shared variable. */
static void add_own(struct resolver *resolver, const json_t *custom, const json_t *credentials)
{
    const char *variable = sb_json_str(custom, "env");
    const char *present = sb_json_str(resolver->env, variable);
    if (!present || strcmp(present, SENTINEL) == 0) {
        json_object_set(resolver->env, variable, json_object_get(custom, "placeholder"));
    }
    bool supplies = supplies_any(custom, credentials);
    SB_CLEANUP(free) char *service = sb_xasprintf("custom:%s", variable);
    size_t i;
    const json_t *rule;
    json_array_foreach(json_object_get(custom, "rules"), i, rule)
    {
        if (supplies && strcmp(text_or(rule, "mode", ""), "placeholder") == 0) {
            continue; /* the credential's rule overwrites the header, whatever stands in it */
        }
        SB_CLEANUP(free)
        char *id = sb_xasprintf("%s#%zu", service, json_array_size(resolver->own) + 1);
        json_t *entry = new_entry(id, service, "", rule, json_object_get(custom, "value"),
                                  json_is_true(json_object_get(custom, "scrub")));
        json_object_set(entry, "placeholder", json_object_get(custom, "placeholder"));
        json_array_append_new(resolver->own, entry);
    }
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
    resolver.own = json_array();
    resolver.env = json_object();
    const json_t *credentials = json_object_get(plan, "credentials");
    size_t i;
    const json_t *item;
    json_array_foreach(credentials, i, item)
    {
        add_credential(&resolver, item);
    }
    for (const struct secret_service *known = secret_services; known->id; known++) {
        if (!is_declared(credentials, known->id)) {
            add_known(&resolver, known);
        }
    }
    json_array_foreach(resolver.custom, i, item)
    {
        add_own(&resolver, item, credentials);
    }
    json_array_extend(resolver.own, resolver.inject);
    *ret_inject = sb_steal(&resolver.own);
    *ret_env = sb_steal(&resolver.env);
    return 0;
}
