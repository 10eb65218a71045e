/* SPDX-License-Identifier: Apache-2.0
 * The values that grammar "1" refuses.  Types have been checked; each rule is one failure with the
 * place of the value that breaks it.  The order is that of the published list of rejections. */
#include <ctype.h>
#include <strings.h>

#include "spec/kit_internal.h"
#include "spec/size.h"

#define NAME_RULE "lowercase letters, digits and inner hyphens, 1 to 64 characters"

bool kit_is_env_name(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_') {
        return false;
    }
    while (isalnum((unsigned char)*s) || *s == '_') {
        s++;
    }
    return *s == '\0';
}

bool kit_is_name(const char *s)
{
    size_t len = strlen(s);
    if (len < 1 || len > 64 || s[0] == '-' || s[len - 1] == '-') {
        return false;
    }
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool is_octal_mode(const char *s)
{
    size_t len = strlen(s);
    return strspn(s, "01234567") == len && (len == 3 || len == 4 || (len == 5 && s[0] == '0'));
}

static bool is_dotted_path(const char *s)
{
    for (;;) {
        if (*s < 'a' || *s > 'z') {
            return false;
        }
        while (isalnum((unsigned char)*s)) {
            s++;
        }
        if (*s == '\0') {
            return true;
        }
        if (*s++ != '.') {
            return false;
        }
    }
}

/* The place to name for a key that is missing from `map`: the map. */
static const struct ynode *place_of(const struct ynode *map, const char *key)
{
    const struct ynode *node = ynode_get(map, key);
    return node ? node : map;
}

static int validate_kind(const struct kit *kit, struct sb_err **err)
{
    const char *kind = ynode_str(kit->top, "kind");
    if (!ynode_str(kit->top, "schemaVersion")[0]) {
        ytree_fail(kit->tree, kit->top, err, "schemaVersion is required");
        sb_hint(err, "write: schemaVersion: \"1\"");
        return SB_ESPEC;
    }
    if (!kind[0]) {
        ytree_fail(kit->tree, kit->top, err, "kind is required");
        sb_hint(err, "write \"kind: mixin\" for a kit that is stacked on an agent");
        return SB_ESPEC;
    }
    if (strcmp(kind, "sandbox") != 0 && strcmp(kind, "agent") != 0 && strcmp(kind, "mixin") != 0) {
        return ytree_fail(kit->tree, ynode_get(kit->top, "kind"), err,
                          "invalid kind \"%.40s\" (must be \"sandbox\" or \"mixin\")", kind);
    }
    return 0;
}

static int validate_name(const struct kit *kit, struct sb_err **err)
{
    const char *name = ynode_str(kit->top, "name");
    if (!name[0]) {
        ytree_fail(kit->tree, kit->top, err, "name is required");
        sb_hint(err, "write name: and " NAME_RULE);
        return SB_ESPEC;
    }
    if (!kit_is_name(name)) {
        return ytree_fail(kit->tree, ynode_get(kit->top, "name"), err,
                          "invalid name \"%.80s\" (must be " NAME_RULE ")", name);
    }
    return 0;
}

static int validate_flat(const struct kit *kit, struct sb_err **err)
{
    static const char *const flat[][2] = {
        {"template", "image"},
        {"binary", "entrypoint.run"},
        {"runOptions", "entrypoint.args"},
        {"aiFilename", "aiFilename"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(flat); i++) {
        const struct ynode *node = ynode_filled(kit->top, flat[i][0]);
        if (node) {
            ytree_fail(kit->tree, node, err, "use the 'sandbox:' block instead of flat '%s'",
                       flat[i][0]);
            sb_hint(err, "write it as sandbox.%s", flat[i][1]);
            return SB_ESPEC;
        }
    }
    return 0;
}

static int validate_block(const struct kit *kit, struct sb_err **err)
{
    const struct ynode *block = kit->block;
    bool mixin = strcmp(ynode_str(kit->top, "kind"), "mixin") == 0;
    const char *image = ynode_str(block, "image"), *ai = ynode_str(block, "aiFilename");
    if (mixin) {
        return block ? ytree_fail(kit->tree, block, err,
                                  "'sandbox:' block is only valid for kind \"sandbox\", not "
                                  "\"mixin\"")
                     : 0;
    }
    if (strchr(ai, '/') || strcmp(ai, "..") == 0 || strcmp(ai, ".") == 0) {
        return ytree_fail(kit->tree, ynode_get(block, "aiFilename"), err,
                          "sandbox.aiFilename must be a file name, not a path (got \"%.80s\")", ai);
    }
    if (image[0] || ynode_str(kit->top, "extends")[0]) {
        return 0;
    }
    if (!block) {
        return ytree_fail(kit->tree, place_of(kit->top, "kind"), err,
                          "kind \"sandbox\" requires a 'sandbox:' block with at least "
                          "'sandbox.image'");
    }
    const struct ynode *build = ynode_filled(block, "build");
    return build ? ytree_fail(kit->tree, build, err,
                              "sandbox.build is accepted in the schema but not yet implemented - "
                              "specify sandbox.image")
                 : ytree_fail(kit->tree, block, err,
                              "sandbox.image is required for kind \"sandbox\"");
}

static int validate_resources(const struct kit *kit, const struct ynode *map, struct sb_err **err)
{
    static const char *const keys[] = {"cpu", "memoryMB"};
    for (size_t i = 0; i < SB_ARRAY_LEN(keys); i++) {
        const struct ynode *node = ynode_get(map, keys[i]);
        if (node && strtod(node->text, NULL) < 0) {
            return ytree_fail(kit->tree, node, err, "resources.%s must be non-negative (got %s)",
                              keys[i], node->text);
        }
    }
    return 0;
}

/* Plain (one slash at its end does no harm), and not what a sandbox has at /proc, /sys, /dev. */
static bool is_place(const char *path)
{
    static const char *const taken[] = {"proc", "sys", "dev"};
    for (const char *name = path + 1; name;
         name = strchr(name, '/') ? strchr(name, '/') + 1 : NULL) {
        size_t n = strcspn(name, "/");
        if (!*name && name > path + 1) {
            break;
        }
        if (n == 0 || (n == 1 && *name == '.') || (n == 2 && strncmp(name, "..", 2) == 0)) {
            return false;
        }
        for (size_t k = 0; name == path + 1 && k < SB_ARRAY_LEN(taken); k++) {
            if (strlen(taken[k]) == n && strncmp(name, taken[k], n) == 0) {
                return false;
            }
        }
    }
    return true;
}

static int validate_volume_path(const struct kit *kit, const struct ynode *at, size_t i,
                                const char *path, struct sb_err **err)
{
    if (!path[0]) {
        return ytree_fail(kit->tree, at, err, "volumes[%zu].path must not be empty", i);
    }
    if (path[0] != '/') {
        return ytree_fail(kit->tree, at, err,
                          "volumes[%zu].path \"%.80s\" must be an absolute path", i, path);
    }
    if (!is_place(path)) {
        return ytree_fail(
            kit->tree, at, err,
            "volumes[%zu].path \"%.80s\" is not a place for a volume: expected a plain "
            "path outside of /proc, /sys and /dev",
            i, path);
    }
    return 0;
}

static int validate_volume_size(const struct kit *kit, const struct ynode *at, size_t i,
                                const char *size, struct sb_err **err)
{
    uint64_t bytes;
    if (!size[0] || size_parse(size, &bytes)) {
        return 0;
    }
    ytree_fail(kit->tree, at, err, "volumes[%zu].size \"%.40s\" is not a valid size", i, size);
    sb_hint(err, "write a number and a unit, such as 512m or 2g");
    return SB_ESPEC;
}

static int validate_volume(const struct kit *kit, const struct ynode *volume, size_t i,
                           struct sb_err **err)
{
    const char *type = ynode_str(volume, "type"), *mode = ynode_str(volume, "mode");
    if (type[0] && strcmp(type, "tmpfs") != 0) {
        return ytree_fail(kit->tree, ynode_get(volume, "type"), err,
                          "volumes[%zu].type \"%.40s\" is invalid (must be omitted or \"tmpfs\")",
                          i, type);
    }
    int r = validate_volume_path(kit, place_of(volume, "path"), i, ynode_str(volume, "path"), err);
    r = r < 0 ? r
              : validate_volume_size(kit, place_of(volume, "size"), i, ynode_str(volume, "size"),
                                     err);
    if (r == 0 && mode[0] && !is_octal_mode(mode)) {
        return ytree_fail(kit->tree, ynode_get(volume, "mode"), err,
                          "volumes[%zu].mode \"%.40s\" must be octal (e.g. \"1777\")", i, mode);
    }
    return r;
}

static int validate_volumes(const struct kit *kit, const struct ynode *volumes, struct sb_err **err)
{
    int r = 0;
    for (size_t i = 0; volumes && r == 0 && i < volumes->count; i++) {
        const struct ynode *item = volumes->items[i];
        if (volumes->kind == YNODE_LIST) {
            r = validate_volume(kit, item, i, err);
            continue;
        }
        r = validate_volume_path(kit, volumes->keys[i], i, volumes->keys[i]->text, err);
        r = r < 0 ? r : validate_volume_size(kit, item, i, item->text, err);
    }
    return r;
}

static int validate_requires(const struct kit *kit, struct sb_err **err)
{
    const struct ynode *agent = ynode_get(ynode_get(kit->top, "requires"), "agent");
    const char *kind = ynode_str(kit->top, "kind");
    if (!agent || !agent->text[0]) {
        return 0;
    }
    if (!kit_is_name(agent->text)) {
        return ytree_fail(kit->tree, agent, err,
                          "requires.agent \"%.80s\" is not a valid agent name (" NAME_RULE ")",
                          agent->text);
    }
    if (strcmp(kind, "mixin") != 0) {
        return ytree_fail(kit->tree, agent, err,
                          "requires.agent is only valid for kind \"mixin\", not \"%s\"", kind);
    }
    return 0;
}

/* `locked` and `licenses`: no empty and no repeated entry. */
static int validate_set(const struct kit *kit, const char *key, bool dotted, struct sb_err **err)
{
    const struct ynode *list = ynode_get(kit->top, key);
    SB_CLEANUP(json) json_t *seen = json_object();
    for (size_t i = 0; list && i < list->count; i++) {
        const struct ynode *item = list->items[i];
        if (!item->text[0]) {
            return ytree_fail(kit->tree, item, err, "%s[%zu] must not be empty", key, i);
        }
        if (dotted && !is_dotted_path(item->text)) {
            ytree_fail(kit->tree, item, err, "%s[%zu] \"%.80s\" is not a well-formed dotted path",
                       key, i, item->text);
            sb_hint(err, "write the path of a field, such as network.allowedDomains");
            return SB_ESPEC;
        }
        if (json_object_get(seen, item->text)) {
            return ytree_fail(kit->tree, item, err, "%s[%zu] \"%.80s\" is duplicated", key, i,
                              item->text);
        }
        json_object_set_new(seen, item->text, json_true());
    }
    return 0;
}

static int validate_ports(const struct kit *kit, const struct ynode *ports, struct sb_err **err)
{
    for (size_t i = 0; ports && i < ports->count; i++) {
        const struct ynode *port = ports->items[i];
        const char *number = ynode_str(port, "container"), *protocol = ynode_str(port, "protocol");
        long value = strtol(number, NULL, 0);
        if (value < 1 || value > 65535) {
            return ytree_fail(kit->tree, place_of(port, "container"), err,
                              "publishedPorts[%zu].container must be in 1..65535 (got %ld)", i,
                              value);
        }
        if (protocol[0] && strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0) {
            return ytree_fail(kit->tree, ynode_get(port, "protocol"), err,
                              "publishedPorts[%zu].protocol must be empty, \"tcp\" or \"udp\" "
                              "(got \"%.40s\")",
                              i, protocol);
        }
    }
    return 0;
}

static int validate_environment(const struct kit *kit, struct sb_err **err)
{
    const struct ynode *env = ynode_get(kit->top, "environment");
    const struct ynode *vars = ynode_get(env, "variables"),
                       *managed = ynode_get(env, "proxyManaged");
    for (size_t i = 0; vars && i < vars->count; i++) {
        if (!kit_is_env_name(vars->keys[i]->text)) {
            return ytree_fail(kit->tree, vars->keys[i], err,
                              "environment: variable key \"%.80s\" is not a valid shell identifier",
                              vars->keys[i]->text);
        }
    }
    for (size_t i = 0; managed && i < managed->count; i++) {
        if (!kit_is_env_name(managed->items[i]->text)) {
            return ytree_fail(kit->tree, managed->items[i], err,
                              "environment: proxyManaged entry \"%.80s\" is not a valid shell "
                              "identifier",
                              managed->items[i]->text);
        }
    }
    return 0;
}

/* Has it a part ".."? */
static bool climbs(const char *path)
{
    size_t len = strlen(path);
    return strstr(path, "/../") || (len >= 3 && strcmp(path + len - 3, "/..") == 0);
}

/* Does it end in a name?  It has a '/' somewhere. */
static bool names_file(const char *path)
{
    size_t n = strlen(path);
    return path[n - 1] != '/' && strcmp(path + n - 2, "/.") != 0;
}

static int validate_init_file(const struct kit *kit, const struct ynode *file, size_t i,
                              struct sb_err **err)
{
    static const char workdir[] = "${WORKDIR}/";
    const char *path = ynode_str(file, "path"), *mode = ynode_str(file, "mode");
    if (!path[0]) {
        return ytree_fail(kit->tree, place_of(file, "path"), err,
                          "commands: initFiles[%zu].path is required", i);
    }
    /* ${WORKDIR} becomes an absolute path in the plan; the reference refuses it here and its own
     * test kit replaces it. */
    if (path[0] != '/' && strncmp(path, workdir, sizeof(workdir) - 1) != 0) {
        ytree_fail(kit->tree, ynode_get(file, "path"), err,
                   "commands: initFiles[%zu].path must be absolute (got \"%.80s\")", i, path);
        sb_hint(err, "begin it with / or with ${WORKDIR}/");
        return SB_ESPEC;
    }
    if (!names_file(path)) {
        ytree_fail(kit->tree, ynode_get(file, "path"), err,
                   "commands: initFiles[%zu].path must name a file (got \"%.80s\")", i, path);
        sb_hint(err, "a directory is made with its first file, or by an install command");
        return SB_ESPEC;
    }
    if (climbs(path)) {
        return ytree_fail(kit->tree, ynode_get(file, "path"), err,
                          "commands: initFiles[%zu].path must not contain \"..\" (got \"%.80s\")",
                          i, path);
    }
    if (mode[0] && !is_octal_mode(mode)) {
        return ytree_fail(kit->tree, ynode_get(file, "mode"), err,
                          "commands: initFiles[%zu].mode must be octal (e.g. \"0755\"), got "
                          "\"%.40s\"",
                          i, mode);
    }
    return 0;
}

static int validate_commands(const struct kit *kit, struct sb_err **err)
{
    const struct ynode *commands = ynode_get(kit->top, "commands");
    const struct ynode *install = ynode_get(commands, "install"),
                       *startup = ynode_get(commands, "startup"),
                       *files = ynode_get(commands, "initFiles");
    for (size_t i = 0; install && i < install->count; i++) {
        if (!ynode_str(install->items[i], "command")[0]) {
            ytree_fail(kit->tree, place_of(install->items[i], "command"), err,
                       "commands: install[%zu].command is required", i);
            sb_hint(err, "write the text for a shell: command: apt-get install -y jq");
            return SB_ESPEC;
        }
    }
    for (size_t i = 0; startup && i < startup->count; i++) {
        const struct ynode *argv = ynode_get(startup->items[i], "command");
        if (!argv || argv->count == 0) {
            ytree_fail(kit->tree, argv ? argv : startup->items[i], err,
                       "commands: startup[%zu].command is required", i);
            sb_hint(err, "write a program and its words: command: [sh, -c, \"...\"]");
            return SB_ESPEC;
        }
    }
    int r = 0;
    for (size_t i = 0; files && r == 0 && i < files->count; i++) {
        r = validate_init_file(kit, files->items[i], i, err);
    }
    return r;
}

int kit_validate(struct kit *kit, struct sb_err **err)
{
    const struct ynode *network = ynode_get(kit->top, "network");
    kit->block = ynode_filled(kit->top, "sandbox");
    kit->block = kit->block ? kit->block : ynode_filled(kit->top, "agent");
    const struct ynode *resources = ynode_get(kit->block ? kit->block : kit->top, "resources");
    int r = validate_kind(kit, err);
    r = r < 0 ? r : validate_name(kit, err);
    r = r < 0 ? r : validate_flat(kit, err);
    r = r < 0 ? r : validate_block(kit, err);
    r = r < 0 ? r : validate_resources(kit, resources, err);
    r = r < 0 ? r : validate_volumes(kit, ynode_get(kit->top, "volumes"), err);
    r = r < 0 ? r : validate_volumes(kit, ynode_get(kit->top, "tmpfs"), err);
    r = r < 0 ? r : validate_requires(kit, err);
    r = r < 0 ? r : validate_set(kit, "locked", true, err);
    r = r < 0 ? r : validate_set(kit, "licenses", false, err);
    r = r < 0 ? r : validate_ports(kit, ynode_get(kit->top, "publishedPorts"), err);
    r = r < 0 ? r : validate_ports(kit, ynode_get(network, "publishedPorts"), err);
    r = r < 0 ? r : validate_environment(kit, err);
    return r < 0 ? r : validate_commands(kit, err);
}
