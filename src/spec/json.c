/* SPDX-License-Identifier: Apache-2.0
 * What `kit inspect --json` prints: the normalised kit in the words of grammar "2", in the order in
 * which a spec is written.  Empty blocks are left out. */
#include "spec/kit_internal.h"

static void put(json_t *out, const char *key, json_t *value)
{
    bool empty = !value || (json_is_array(value) && json_array_size(value) == 0) ||
                 (json_is_object(value) && json_object_size(value) == 0) ||
                 (json_is_string(value) && json_string_length(value) == 0);
    if (empty) {
        json_decref(value);
        return;
    }
    json_object_set_new(out, key, value);
}

static void put_text(json_t *out, const struct ynode *map, const char *key)
{
    const struct ynode *node = ynode_get(map, key);
    put(out, key, node ? json_string(node->text) : NULL);
}

/* The list that the spec has at `key`, under a name of grammar "2". */
static void put_list_as(json_t *out, const char *name, const struct ynode *map, const char *key)
{
    const struct ynode *node = ynode_get(map, key);
    json_t *list = json_array();
    for (size_t i = 0; node && i < node->count; i++) {
        json_array_append_new(list, json_string(node->items[i]->text));
    }
    put(out, name, list);
}

/* An octal mode as a spec writes it. */
static void put_mode(json_t *out, const json_t *model)
{
    json_object_set_new(out, "mode", json_sprintf("%04llo", sb_json_int(model, "mode", 0)));
}

static void put_member(json_t *out, const char *key, const json_t *model, const char *member)
{
    put(out, key, json_incref(json_object_get(model, member)));
}

static json_t *rules(const json_t *list)
{
    json_t *out = json_array();
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        json_array_append(out, json_object_get(item, "rule"));
    }
    return out;
}

static json_t *sandbox_block(const struct kit *kit)
{
    const json_t *resources = json_object_get(kit->model, "resources");
    const struct ynode *entry = ynode_get(kit->block, "entrypoint");
    json_t *out = json_object(), *part = json_object();
    json_int_t memory = sb_json_int(resources, "memory_mb", 0);
    put_text(out, kit->block, "image");
    put_list_as(out, "entrypoint", entry, "run");
    put_list_as(part, "default", entry, "args");
    put_list_as(part, "interactive", entry, "ttyArgs");
    put(out, "command", part);
    part = json_object();
    if (json_number_value(json_object_get(resources, "cpu")) > 0) {
        put_member(part, "cpu", resources, "cpu");
    }
    put(part, "memory", memory > 0 ? json_sprintf("%lldm", (long long)memory) : NULL);
    put(out, "resources", part);
    return out;
}

static json_t *volume_list(const struct kit *kit)
{
    json_t *out = json_array();
    size_t i;
    const json_t *volume;
    json_array_foreach(json_object_get(kit->model, "volumes"), i, volume)
    {
        json_t *item = json_object();
        put_member(item, "path", volume, "path");
        put_member(item, "type", volume, "type");
        put_member(item, "size", volume, "size");
        if (sb_json_int(volume, "mode", 0)) {
            put_mode(item, volume);
        }
        json_array_append_new(out, item);
    }
    return out;
}

/* Says only which hosts belong to the service. */
static bool is_routing(const json_t *credential)
{
    size_t i;
    const json_t *inject;
    json_array_foreach(json_object_get(credential, "inject"), i, inject)
    {
        if (sb_json_str(inject, "header")[0] || sb_json_str(inject, "username")[0]) {
            return false;
        }
    }
    return json_array_size(json_object_get(json_object_get(credential, "sources"), "env")) == 0;
}

static json_t *api_key(const json_t *credential)
{
    const json_t *env = json_object_get(json_object_get(credential, "sources"), "env");
    json_t *out = json_object();
    put(out, "name", json_incref(json_array_get(env, 0)));
    if (json_array_size(json_object_get(credential, "proxy_managed"))) {
        json_object_set_new(out, "proxyManaged", json_true());
    }
    put_member(out, "inject", credential, "inject");
    return out;
}

static json_t *sign_in(const json_t *oauth)
{
    const json_t *sentinels = json_object_get(oauth, "sentinels");
    const json_t *fields = json_object_get(oauth, "fields");
    json_t *out = json_object(), *part = json_object(), *hosts = json_array();
    put_member(part, "host", oauth, "host");
    put_member(part, "path", oauth, "path");
    put(out, "tokenEndpoint", part);
    size_t i;
    json_t *host;
    json_array_foreach(json_object_get(oauth, "hosts"), i, host)
    {
        if (!json_equal(host, json_object_get(oauth, "host"))) {
            json_array_append(hosts, host);
        }
    }
    put(out, "resourceHosts", hosts);
    part = json_object();
    put_member(part, "accessToken", sentinels, "access");
    put_member(part, "refreshToken", sentinels, "refresh");
    put(out, "sentinels", part);
    part = json_object();
    put_member(part, "accessToken", fields, "access");
    put_member(part, "refreshToken", fields, "refresh");
    put_member(part, "expiresIn", fields, "expires_in");
    put(out, "responseFields", part);
    if (json_is_true(json_object_get(oauth, "passthrough"))) {
        json_object_set_new(out, "passthrough", json_true());
    }
    return out;
}

/* As grammar "2" has it, and `sources`, which it does not have. */
static json_t *credential_list(const struct kit *kit)
{
    json_t *out = json_array();
    size_t i;
    const json_t *credential;
    json_array_foreach(json_object_get(kit->model, "credentials"), i, credential)
    {
        const json_t *oauth = json_object_get(credential, "oauth");
        json_t *item = json_object();
        put_member(item, "service", credential, "service");
        put_member(item, "required", credential, "required");
        put(item, "apiKey", oauth && is_routing(credential) ? NULL : api_key(credential));
        put(item, "oauth", oauth ? sign_in(oauth) : NULL);
        put_member(item, "scrub", credential, "scrub");
        put_member(item, "sources", credential, "sources");
        json_array_append_new(out, item);
    }
    return out;
}

static json_t *environment_block(const struct kit *kit)
{
    json_t *out = json_object(), *managed = json_array();
    size_t i, j;
    const json_t *credential, *name;
    json_array_foreach(json_object_get(kit->model, "credentials"), i, credential)
    {
        json_array_foreach(json_object_get(credential, "proxy_managed"), j, name)
        {
            sb_json_add_once(managed, json_string_value(name));
        }
    }
    put_member(out, "variables", kit->model, "env");
    put(out, "proxyManaged", managed);
    return out;
}

/* The steps of one kind; `argv` and what else is called otherwise in a spec is renamed. */
static json_t *step_list(const struct kit *kit, const char *key)
{
    json_t *out = json_array();
    size_t i;
    const json_t *step;
    json_array_foreach(json_object_get(kit->model, key), i, step)
    {
        json_t *item = json_object();
        put_member(item, "command", step, json_object_get(step, "argv") ? "argv" : "command");
        put_member(item, "user", step, "user");
        put_member(item, "background", step, "background");
        put_member(item, "description", step, "description");
        put_member(item, "line", step, "line");
        json_array_append_new(out, item);
    }
    return out;
}

static json_t *init_file_list(const struct kit *kit)
{
    json_t *out = json_array();
    size_t i;
    const json_t *file;
    json_array_foreach(json_object_get(kit->model, "init_files"), i, file)
    {
        json_t *item = json_object();
        put_member(item, "path", file, "path");
        json_object_set(item, "content", json_object_get(file, "content"));
        put_mode(item, file);
        put_member(item, "onlyIfMissing", file, "only_if_missing");
        put_member(item, "line", file, "line");
        json_array_append_new(out, item);
    }
    return out;
}

static json_t *file_list(const struct kit *kit)
{
    json_t *out = json_array();
    size_t i;
    const json_t *file;
    json_array_foreach(kit->files, i, file)
    {
        json_t *item = json_object();
        put_member(item, "target", file, "target");
        put_member(item, "relativePath", file, "path");
        put_mode(item, file);
        put_member(item, "size", file, "size");
        json_array_append_new(out, item);
    }
    return out;
}

static void put_head(json_t *out, const struct kit *kit)
{
    static const char *const head[] = {"version", "displayName", "description", "sourceURL",
                                       "extends"};
    json_t *requires = json_object();
    put_text(out, kit->top, "schemaVersion");
    put_member(out, "kind", kit->model, "kind");
    put_member(out, "name", kit->model, "name");
    for (size_t i = 0; i < SB_ARRAY_LEN(head); i++) {
        put_text(out, kit->top, head[i]);
    }
    put_list_as(out, "mixins", kit->top, "mixins");
    put_text(requires, ynode_get(kit->top, "requires"), "agent");
    put(out, "requires", requires);
    put_list_as(out, "locked", kit->top, "locked");
    put_list_as(out, "licenses", kit->top, "licenses");
}

json_t *kit_to_json(const struct kit *kit)
{
    const json_t *m = kit->model;
    json_t *out = json_object(), *part = json_object(), *network = json_object();
    put_head(out, kit);
    put(out, "sandbox", sandbox_block(kit));
    put_member(part, "filename", m, "ai_file");
    put_member(part, "content", m, "context");
    put(out, "agentInstructions", part);
    put(network, "allow", rules(json_object_get(m, "allow")));
    put(network, "deny", rules(json_object_get(m, "deny")));
    part = json_object();
    put(part, "network", network);
    put(out, "permissions", part);
    put(out, "volumes", volume_list(kit));
    if (json_is_true(json_object_get(m, "privileged"))) {
        put(out, "security", json_pack("{s:b}", "privileged", 1));
    }
    put_member(out, "ports", m, "ports");
    put(out, "credentials", credential_list(kit));
    put(out, "environment", environment_block(kit));
    part = json_object();
    put(part, "install", step_list(kit, "install"));
    put(part, "startup", step_list(kit, "startup"));
    put(part, "files", init_file_list(kit));
    put(out, "setup", part);
    put(out, "warnings", json_incref(kit->warnings));
    put(out, "files", file_list(kit));
    return out;
}
