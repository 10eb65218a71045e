/* SPDX-License-Identifier: Apache-2.0
 * From the checked tree to the model (see kit_model()): legacy spellings are folded, each with one
 * warning per kind of surface, and every map is taken in sorted order, so that equal specs give
 * equal models. */
#include "base/reserved_env.h"
#include "spec/kit_internal.h"

static const struct ynode *top_get(const struct kit *kit, const char *key)
{
    return ynode_get(kit->top, key);
}

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, json_string(text));
}

static json_t *text_list(const struct ynode *list)
{
    json_t *out = json_array();
    for (size_t i = 0; list && i < list->count; i++) {
        json_array_append_new(out, json_string(list->items[i]->text));
    }
    return out;
}

static bool flag(const struct ynode *map, const char *key)
{
    bool value = false;
    const struct ynode *node = ynode_get(map, key);
    return node && ynode_to_bool(node, &value) && value;
}

static void warn_legacy(struct kit *kit, const char *key, const char *advice)
{
    const struct ynode *node = ynode_key(kit->top, key);
    if (node) {
        kit_warn(kit, node, "%s", advice);
    }
}

static void warn_surfaces(struct kit *kit)
{
    const struct ynode *kind = top_get(kit, "kind");
    if (strcmp(kind->text, "agent") == 0) {
        kit_warn(kit, kind, "deprecated field \"kind: agent\": write kind: sandbox");
    }
    const struct ynode *agent = ynode_key(kit->top, "agent");
    const struct ynode *persistence = ynode_key(kit->block, "persistence");
    const struct ynode *build = ynode_key(kit->block, "build");
    if (agent) {
        kit_warn(kit, agent, "deprecated field \"agent:\": %s",
                 ynode_filled(kit->top, "sandbox") ? "ignored, 'sandbox:' is used"
                                                   : "write sandbox:");
    }
    if (persistence) {
        kit_warn(kit, persistence, "field \"sandbox.persistence\" ignored: it never had an effect");
    }
    if (build) {
        kit_warn(kit, build,
                 "field \"sandbox.build\" is accepted but not yet implemented: the image is used");
    }
    warn_legacy(kit, "mixins",
                "field \"mixins\" is accepted but not yet implemented: stack kits "
                "with --kit");
    warn_legacy(kit, "memory", "deprecated field \"memory\": write agentContext");
    warn_legacy(kit, "persistence", "field \"persistence\" ignored: it never had an effect");
    warn_legacy(kit, "kitDir", "field \"kitDir\" ignored: it never had an effect");
    warn_legacy(kit, "settings", "field \"settings\" ignored: write the files with commands");
    warn_legacy(kit, "tmpfs", "deprecated field \"tmpfs\": write volumes with type: tmpfs");
    warn_legacy(kit, "caps", "deprecated field \"caps\": write network.allowedDomains");
    const struct ynode *volumes = ynode_filled(kit->top, "volumes");
    if (volumes && volumes->kind == YNODE_MAP) {
        kit_warn(kit, ynode_key(kit->top, "volumes"),
                 "deprecated field \"volumes\" as a mapping: write a list");
    }
}

static void add_environment(struct kit *kit)
{
    const struct ynode *vars = ynode_get(top_get(kit, "environment"), "variables");
    json_t *env = json_object();
    for (size_t i = 0; vars && i < vars->count; i++) {
        const char *name = vars->keys[i]->text;
        if (sb_env_is_reserved(name)) {
            kit_warn(kit, vars->keys[i],
                     "environment variable \"%.80s\" belongs to the sandbox: setting it can break "
                     "programs inside",
                     name);
        }
        set_text(env, name, vars->items[i]->text);
    }
    json_object_set_new(kit->model, "env", env);
}

static void append_rules(json_t *rules, const struct ynode *list)
{
    for (size_t i = 0; list && i < list->count; i++) {
        json_array_append_new(rules, json_pack("{s:s, s:I}", "rule", list->items[i]->text, "line",
                                               (json_int_t)list->items[i]->line));
    }
}

static void add_network(struct kit *kit)
{
    const struct ynode *network = top_get(kit, "network");
    const struct ynode *caps = ynode_get(top_get(kit, "caps"), "network");
    json_t *allow = json_array(), *deny = json_array();
    append_rules(allow, ynode_get(caps, "allow"));
    append_rules(allow, ynode_get(network, "allowedDomains"));
    append_rules(deny, ynode_get(caps, "deny"));
    append_rules(deny, ynode_get(network, "deniedDomains"));
    json_object_set_new(kit->model, "allow", allow);
    json_object_set_new(kit->model, "deny", deny);
}

static void append_ports(json_t *ports, const struct ynode *list)
{
    for (size_t i = 0; list && i < list->count; i++) {
        const struct ynode *port = list->items[i];
        const char *protocol = ynode_str(port, "protocol");
        json_array_append_new(
            ports, json_pack("{s:I, s:s, s:s}", "container",
                             (json_int_t)strtol(ynode_str(port, "container"), NULL, 0), "protocol",
                             protocol[0] ? protocol : "tcp", "name", ynode_str(port, "name")));
    }
}

static void add_ports(struct kit *kit)
{
    const struct ynode *network = top_get(kit, "network");
    const struct ynode *nested = ynode_filled(network, "publishedPorts");
    json_t *ports = json_array();
    append_ports(ports, top_get(kit, "publishedPorts"));
    append_ports(ports, nested);
    if (nested) {
        kit_warn(kit, ynode_key(network, "publishedPorts"),
                 "deprecated field \"network.publishedPorts\": write publishedPorts at the top");
    }
    json_object_set_new(kit->model, "ports", ports);
}

static json_t *new_volume(const char *path, const char *type, const char *size, const char *mode)
{
    json_int_t bits = mode[0] ? strtol(mode, NULL, 8) : 0;
    int len = (int)strlen(path);
    return json_pack("{s:s#, s:s, s:s, s:I}", "path", path, path[len - 1] == '/' ? len - 1 : len,
                     "type", type, "size", size, "mode", bits);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A mapping path -> size, sorted by path. */
static void append_volume_map(json_t *volumes, const struct ynode *map, const char *type)
{
    if (!map || map->kind != YNODE_MAP) {
        return;
    }
    SB_CLEANUP(json) json_t *sorted = json_object();
    for (size_t i = 0; i < map->count; i++) {
        set_text(sorted, map->keys[i]->text, map->items[i]->text);
    }
    const char **paths = sb_xcalloc(map->count + 1, sizeof(*paths));
    size_t n = 0;
    const char *path;
    json_t *size;
    json_object_foreach(sorted, path, size)
    {
        paths[n++] = path;
    }
    qsort(paths, n, sizeof(*paths), by_text);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_object_get(sorted, paths[i]));
        json_array_append_new(volumes, new_volume(paths[i], type, text, ""));
    }
    free(paths);
}

static void add_volumes(struct kit *kit)
{
    const struct ynode *list = top_get(kit, "volumes");
    json_t *volumes = json_array();
    append_volume_map(volumes, top_get(kit, "tmpfs"), "tmpfs");
    for (size_t i = 0; list && list->kind == YNODE_LIST && i < list->count; i++) {
        const struct ynode *v = list->items[i];
        json_array_append_new(volumes, new_volume(ynode_str(v, "path"), ynode_str(v, "type"),
                                                  ynode_str(v, "size"), ynode_str(v, "mode")));
    }
    append_volume_map(volumes, list, "");
    json_object_set_new(kit->model, "volumes", volumes);
}

static void add_sandbox(struct kit *kit)
{
    const struct ynode *block = kit->block, *entry = ynode_get(block, "entrypoint");
    const struct ynode *resources = ynode_get(block ? block : kit->top, "resources");
    json_t *argv = text_list(ynode_get(entry, "run"));
    SB_CLEANUP(json) json_t *args = text_list(ynode_get(entry, "args"));
    json_array_extend(argv, args);
    json_object_set_new(kit->model, "entry", argv);
    set_text(kit->model, "image", ynode_str(block, "image"));
    set_text(kit->model, "ai_file", ynode_str(block, "aiFilename"));
    json_object_set_new(kit->model, "resources",
                        json_pack("{s:f, s:I}", "cpu", strtod(ynode_str(resources, "cpu"), NULL),
                                  "memory_mb",
                                  (json_int_t)strtol(ynode_str(resources, "memoryMB"), NULL, 0)));
}

static void add_install(struct kit *kit, const struct ynode *list)
{
    json_t *out = json_array();
    for (size_t i = 0; list && i < list->count; i++) {
        const struct ynode *item = list->items[i];
        const char *user = ynode_str(item, "user");
        json_array_append_new(
            out, json_pack("{s:s, s:s, s:s, s:I}", "command", ynode_str(item, "command"), "user",
                           user[0] ? user : "0", "description", ynode_str(item, "description"),
                           "line", (json_int_t)ynode_get(item, "command")->line));
    }
    json_object_set_new(kit->model, "install", out);
}

static void add_startup(struct kit *kit, const struct ynode *list)
{
    json_t *out = json_array();
    for (size_t i = 0; list && i < list->count; i++) {
        const struct ynode *item = list->items[i], *argv = ynode_get(item, "command");
        const char *user = ynode_str(item, "user");
        json_array_append_new(out, json_pack("{s:o, s:s, s:b, s:s, s:I}", "argv", text_list(argv),
                                             "user", user[0] ? user : "1000", "background",
                                             flag(item, "background"), "description",
                                             ynode_str(item, "description"), "line",
                                             (json_int_t)argv->line));
    }
    json_object_set_new(kit->model, "startup", out);
}

static void add_init_files(struct kit *kit, const struct ynode *list)
{
    json_t *out = json_array();
    for (size_t i = 0; list && i < list->count; i++) {
        const struct ynode *item = list->items[i];
        const char *mode = ynode_str(item, "mode");
        json_array_append_new(out, json_pack("{s:s, s:s, s:I, s:b, s:I}", "path",
                                             ynode_str(item, "path"), "content",
                                             ynode_str(item, "content"), "mode",
                                             (json_int_t)strtol(mode[0] ? mode : "0644", NULL, 8),
                                             "only_if_missing", flag(item, "onlyIfMissing"), "line",
                                             (json_int_t)ynode_get(item, "path")->line));
    }
    json_object_set_new(kit->model, "init_files", out);
}

static void add_identity(struct kit *kit)
{
    const char *context = ynode_str(kit->top, "agentContext");
    bool mixin = strcmp(ynode_str(kit->top, "kind"), "mixin") == 0;
    set_text(kit->model, "name", ynode_str(kit->top, "name"));
    set_text(kit->model, "kind", mixin ? "mixin" : "sandbox");
    set_text(kit->model, "file", kit->file);
    set_text(kit->model, "extends", ynode_str(kit->top, "extends"));
    set_text(kit->model, "context", context[0] ? context : ynode_str(kit->top, "memory"));
    set_text(kit->model, "requires_agent", ynode_str(top_get(kit, "requires"), "agent"));
    json_object_set_new(kit->model, "locked", text_list(top_get(kit, "locked")));
    json_object_set_new(kit->model, "privileged",
                        json_boolean(flag(top_get(kit, "security"), "privileged")));
}

int kit_normalize(struct kit *kit, struct sb_err **err)
{
    const struct ynode *commands = top_get(kit, "commands");
    kit->model = json_object();
    warn_surfaces(kit);
    add_identity(kit);
    add_sandbox(kit);
    add_environment(kit);
    add_network(kit);
    add_ports(kit);
    add_volumes(kit);
    add_install(kit, ynode_get(commands, "install"));
    add_startup(kit, ynode_get(commands, "startup"));
    add_init_files(kit, ynode_get(commands, "initFiles"));
    return kit_normalize_credentials(kit, err);
}
