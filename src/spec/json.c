/* SPDX-License-Identifier: Apache-2.0
 * What `kit inspect --json` prints: the normalised kit, in the order in which a spec is written.
 * Empty blocks are left out. */
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

static void put_list(json_t *out, const struct ynode *map, const char *key)
{
    const struct ynode *node = ynode_get(map, key);
    json_t *list = json_array();
    for (size_t i = 0; node && i < node->count; i++) {
        json_array_append_new(list, json_string(node->items[i]->text));
    }
    put(out, key, list);
}

/* A copy of the model's list without the places. */
static json_t *without_lines(const json_t *list)
{
    json_t *copy = json_deep_copy(list), *item;
    size_t i;
    json_array_foreach(copy, i, item)
    {
        json_object_del(item, "line");
    }
    return copy;
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
    json_t *out = json_object(), *resources = json_object_get(kit->model, "resources");
    put_text(out, kit->block, "image");
    put(out, "entrypoint", json_incref(json_object_get(kit->model, "entry")));
    if (json_number_value(json_object_get(resources, "cpu")) > 0 ||
        sb_json_int(resources, "memory_mb", 0) > 0) {
        put(out, "resources", json_incref(resources));
    }
    return out;
}

json_t *kit_to_json(const struct kit *kit)
{
    static const char *const head[] = {"displayName", "description", "version", "sourceURL",
                                       "extends"};
    const json_t *m = kit->model;
    json_t *out = json_object(), *part;
    put_text(out, kit->top, "schemaVersion");
    put(out, "kind", json_incref(json_object_get(m, "kind")));
    put(out, "name", json_incref(json_object_get(m, "name")));
    for (size_t i = 0; i < SB_ARRAY_LEN(head); i++) {
        put_text(out, kit->top, head[i]);
    }
    put_list(out, kit->top, "mixins");
    part = json_object();
    put_text(part, ynode_get(kit->top, "requires"), "agent");
    put(out, "requires", part);
    put_list(out, kit->top, "locked");
    put_list(out, kit->top, "licenses");
    put(out, "sandbox", sandbox_block(kit));
    part = json_object();
    put(part, "filename", json_incref(json_object_get(m, "ai_file")));
    put(part, "content", json_incref(json_object_get(m, "context")));
    put(out, "agentInstructions", part);
    part = json_object();
    put(part, "allow", rules(json_object_get(m, "allow")));
    put(part, "deny", rules(json_object_get(m, "deny")));
    put(out, "permissions", json_object_size(part) ? json_pack("{s:O}", "network", part) : NULL);
    json_decref(part);
    put(out, "volumes", json_incref(json_object_get(m, "volumes")));
    if (json_is_true(json_object_get(m, "privileged"))) {
        put(out, "security", json_pack("{s:b}", "privileged", 1));
    }
    put(out, "ports", json_incref(json_object_get(m, "ports")));
    put(out, "credentials", without_lines(json_object_get(m, "credentials")));
    part = json_object();
    put(part, "variables", json_incref(json_object_get(m, "env")));
    put(out, "environment", part);
    part = json_object();
    put(part, "install", without_lines(json_object_get(m, "install")));
    put(part, "startup", without_lines(json_object_get(m, "startup")));
    put(part, "files", without_lines(json_object_get(m, "init_files")));
    put(out, "setup", part);
    put(out, "warnings", json_incref(kit->warnings));
    put(out, "files", json_incref(kit->files));
    return out;
}
