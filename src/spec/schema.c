/* SPDX-License-Identifier: Apache-2.0
 * The grammar as tables, and the walk that holds a tree against them. */
#include "spec/schema.h"

#include <errno.h>
#include <stdint.h>
#include <strings.h>

#include "base/buf.h"
#include "base/nearest.h"

enum type {
    T_STR,
    T_BOOL,
    T_INT,
    T_NUMBER,
    T_MAP,  /* of fixed keys: `fields` */
    T_DICT, /* of free keys, values of type `item` */
    T_LIST, /* items of type `item` */
    T_ANY,
    T_CREDENTIALS, /* a mapping with `sources`, or a list */
    T_VOLUMES,     /* a mapping path -> size, or a list */
};

struct field {
    const char *key; /* NULL ends a table */
    enum type type;
    const struct field *item;   /* T_DICT, T_LIST: type of the items */
    const struct field *fields; /* T_MAP: its keys */
};

#define LIST_OF(f) T_LIST, f, NULL
#define DICT_OF(f) T_DICT, f, NULL
#define MAP_OF(f)  T_MAP, NULL, f
#define PLAIN(t)   t, NULL, NULL

static const struct field a_string = {"", PLAIN(T_STR)};
static const struct field a_bool = {"", PLAIN(T_BOOL)};

static const struct field entrypoint[] = {
    {"run", LIST_OF(&a_string)}, {"args", LIST_OF(&a_string)}, {"ttyArgs", LIST_OF(&a_string)},
    {"pipeMode", PLAIN(T_STR)},  {NULL, PLAIN(T_ANY)},
};
static const struct field resources[] = {
    {"cpu", PLAIN(T_NUMBER)},
    {"memoryMB", PLAIN(T_INT)},
    {"gpu", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field build[] = {
    {"context", PLAIN(T_STR)}, {"dockerfile", PLAIN(T_STR)},      {"args", DICT_OF(&a_string)},
    {"target", PLAIN(T_STR)},  {"platforms", LIST_OF(&a_string)}, {NULL, PLAIN(T_ANY)},
};
static const struct field block[] = {
    {"image", PLAIN(T_STR)},
    {"build", MAP_OF(build)},
    {"entrypoint", MAP_OF(entrypoint)},
    {"aiFilename", PLAIN(T_STR)},
    {"resources", MAP_OF(resources)},
    {"persistence", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field port[] = {
    {"container", PLAIN(T_INT)},
    {"protocol", PLAIN(T_STR)},
    {"name", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field a_port = {"", MAP_OF(port)};
static const struct field service_auth[] = {
    {"headerName", PLAIN(T_STR)},
    {"valueFormat", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field a_service_auth = {"", MAP_OF(service_auth)};
static const struct field network[] = {
    {"allowedDomains", LIST_OF(&a_string)}, {"deniedDomains", LIST_OF(&a_string)},
    {"serviceDomains", DICT_OF(&a_string)}, {"serviceAuth", DICT_OF(&a_service_auth)},
    {"publishedPorts", LIST_OF(&a_port)},   {NULL, PLAIN(T_ANY)},
};
static const struct field source_file[] = {
    {"path", PLAIN(T_STR)},
    {"parser", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field source[] = {
    {"env", LIST_OF(&a_string)}, {"file", MAP_OF(source_file)}, {"priority", PLAIN(T_STR)},
    {"required", PLAIN(T_BOOL)}, {NULL, PLAIN(T_ANY)},
};
static const struct field a_source = {"", MAP_OF(source)};
static const struct field credentials_map[] = {
    {"sources", DICT_OF(&a_source)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field environment[] = {
    {"variables", DICT_OF(&a_string)},
    {"proxyManaged", LIST_OF(&a_string)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field install[] = {
    {"command", PLAIN(T_STR)},
    {"user", PLAIN(T_STR)},
    {"description", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field startup[] = {
    {"command", LIST_OF(&a_string)}, {"user", PLAIN(T_STR)}, {"background", PLAIN(T_BOOL)},
    {"description", PLAIN(T_STR)},   {NULL, PLAIN(T_ANY)},
};
static const struct field init_file[] = {
    {"path", PLAIN(T_STR)},           {"content", PLAIN(T_STR)},     {"mode", PLAIN(T_STR)},
    {"onlyIfMissing", PLAIN(T_BOOL)}, {"description", PLAIN(T_STR)}, {NULL, PLAIN(T_ANY)},
};
static const struct field an_install = {"", MAP_OF(install)};
static const struct field a_startup = {"", MAP_OF(startup)};
static const struct field an_init_file = {"", MAP_OF(init_file)};
static const struct field commands[] = {
    {"install", LIST_OF(&an_install)},
    {"startup", LIST_OF(&a_startup)},
    {"initFiles", LIST_OF(&an_init_file)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field token_endpoint[] = {
    {"host", PLAIN(T_STR)},
    {"path", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field sentinels[] = {
    {"accessToken", PLAIN(T_STR)},
    {"refreshToken", PLAIN(T_STR)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field credential_file[] = {
    {"path", PLAIN(T_STR)},
    {"template", PLAIN(T_STR)},
    {"structure", PLAIN(T_ANY)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field response_fields[] = {
    {"accessToken", PLAIN(T_STR)}, {"refreshToken", PLAIN(T_STR)}, {"expiresIn", PLAIN(T_STR)},
    {"scope", PLAIN(T_STR)},       {NULL, PLAIN(T_ANY)},
};
static const struct field oauth[] = {
    {"service", PLAIN(T_STR)},
    {"tokenEndpoint", MAP_OF(token_endpoint)},
    {"sentinels", MAP_OF(sentinels)},
    {"credentialFile", MAP_OF(credential_file)},
    {"skipIfEnv", LIST_OF(&a_string)},
    {"responseFields", MAP_OF(response_fields)},
    {"passthroughResponse", PLAIN(T_BOOL)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field credential_oauth[] = {
    {"tokenEndpoint", MAP_OF(token_endpoint)},
    {"resourceHosts", LIST_OF(&a_string)},
    {"sentinels", MAP_OF(sentinels)},
    {"credentialFile", MAP_OF(credential_file)},
    {"skipIfEnv", LIST_OF(&a_string)},
    {"responseFields", MAP_OF(response_fields)},
    {"passthrough", PLAIN(T_BOOL)},
    {NULL, PLAIN(T_ANY)},
};
/* path, methods, mode and scrub are ours: readers of grammar "1" ignore what they do not know here.
 */
static const struct field inject[] = {
    {"domain", PLAIN(T_STR)},   {"header", PLAIN(T_STR)},        {"format", PLAIN(T_STR)},
    {"username", PLAIN(T_STR)}, {"scheme", PLAIN(T_STR)},        {"path", PLAIN(T_STR)},
    {"mode", PLAIN(T_STR)},     {"methods", LIST_OF(&a_string)}, {NULL, PLAIN(T_ANY)},
};
static const struct field an_inject = {"", MAP_OF(inject)};
static const struct field api_key[] = {
    {"name", PLAIN(T_STR)},
    {"proxyManaged", PLAIN(T_BOOL)},
    {"inject", LIST_OF(&an_inject)},
    {"scrub", PLAIN(T_BOOL)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field credential[] = {
    {"service", PLAIN(T_STR)},  {"description", PLAIN(T_STR)}, {"required", PLAIN(T_BOOL)},
    {"provider", PLAIN(T_ANY)}, {"apiKey", MAP_OF(api_key)},   {"oauth", MAP_OF(credential_oauth)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field a_credential = {"", MAP_OF(credential)};
static const struct field volume[] = {
    {"path", PLAIN(T_STR)}, {"type", PLAIN(T_STR)}, {"size", PLAIN(T_STR)},
    {"mode", PLAIN(T_STR)}, {NULL, PLAIN(T_ANY)},
};
static const struct field a_volume = {"", MAP_OF(volume)};
static const struct field requires_map[] = {{"agent", PLAIN(T_STR)}, {NULL, PLAIN(T_ANY)}};
static const struct field security[] = {{"privileged", PLAIN(T_BOOL)}, {NULL, PLAIN(T_ANY)}};
static const struct field settings[] = {
    {"containerSettings", DICT_OF(&a_bool)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field caps_network[] = {
    {"allow", LIST_OF(&a_string)},
    {"deny", LIST_OF(&a_string)},
    {NULL, PLAIN(T_ANY)},
};
static const struct field caps[] = {{"network", MAP_OF(caps_network)}, {NULL, PLAIN(T_ANY)}};
static const struct field top[] = {
    {"schemaVersion", PLAIN(T_STR)},
    {"kind", PLAIN(T_STR)},
    {"name", PLAIN(T_STR)},
    {"displayName", PLAIN(T_STR)},
    {"description", PLAIN(T_STR)},
    {"version", PLAIN(T_STR)},
    {"sourceURL", PLAIN(T_STR)},
    {"extends", PLAIN(T_STR)},
    {"mixins", LIST_OF(&a_string)},
    {"requires", MAP_OF(requires_map)},
    {"locked", LIST_OF(&a_string)},
    {"licenses", LIST_OF(&a_string)},
    {"security", MAP_OF(security)},
    {"agent", MAP_OF(block)},
    {"sandbox", MAP_OF(block)},
    {"secrets", LIST_OF(&a_string)},
    {"egress", DICT_OF(&a_string)},
    {"network", MAP_OF(network)},
    {"credentials", PLAIN(T_CREDENTIALS)},
    {"environment", MAP_OF(environment)},
    {"settings", MAP_OF(settings)},
    {"commands", MAP_OF(commands)},
    {"oauth", MAP_OF(oauth)},
    {"publishedPorts", LIST_OF(&a_port)},
    {"caps", MAP_OF(caps)},
    {"memory", PLAIN(T_STR)},
    {"agentContext", PLAIN(T_STR)},
    {"volumes", PLAIN(T_VOLUMES)},
    {"tmpfs", DICT_OF(&a_string)},
    {"persistence", PLAIN(T_STR)},
    {"kitDir", PLAIN(T_STR)},
    {"template", PLAIN(T_STR)},
    {"binary", PLAIN(T_STR)},
    {"runOptions", LIST_OF(&a_string)},
    {"interactiveOptions", LIST_OF(&a_string)},
    {"aiFilename", PLAIN(T_STR)},
    {"resources", MAP_OF(resources)},
    {"build", MAP_OF(build)},
    {NULL, PLAIN(T_ANY)},
};

/* One step of the walk: where it is ("network.serviceAuth.x") and how strict. */
struct spot {
    struct kit *kit;
    const struct spot *parent;
    const char *key; /* NULL at the top */
    size_t index;    /* of a list item when `key` is "" */
    bool lenient;    /* unknown keys warn */
};

static int check(const struct spot *at, const struct field *field, const struct ynode *node,
                 struct sb_err **err);

static void spot_path(const struct spot *at, struct sb_buf *out)
{
    if (!at->key) {
        return;
    }
    spot_path(at->parent, out);
    if (!at->key[0]) {
        sb_buf_printf(out, "[%zu]", at->index);
    } else {
        sb_buf_printf(out, "%s%.64s", at->parent->key ? "." : "", at->key);
    }
}

/* How grammar "1" calls a key of grammar "2", or NULL. */
static const char *older_word(const char *word)
{
    static const char *const words[][2] = {
        {"permissions", "network.allowedDomains and network.deniedDomains"},
        {"ports", "publishedPorts"},
        {"setup", "commands"},
        {"agentInstructions", "agentContext"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(words); i++) {
        if (strcmp(word, words[i][0]) == 0) {
            return words[i][1];
        }
    }
    return NULL;
}

static void hint_keys(const struct field *fields, const char *word, struct sb_err **err)
{
    const char *older = fields == top ? older_word(word) : NULL;
    size_t count = 0;
    SB_CLEANUP(free) const char **keys = NULL;
    SB_CLEANUP(buf) struct sb_buf list;
    sb_buf_init(&list, 1024);
    for (const struct field *f = fields; f->key; f++) {
        keys = sb_xrealloc(keys, count + 1, sizeof(*keys));
        keys[count++] = f->key;
        sb_buf_printf(&list, "%s%s", f == fields ? "" : ", ", f->key);
    }
    const char *nearest = sb_nearest(word, keys, count);
    if (older) {
        sb_hint(err, "in the grammar of schemaVersion \"1\" it is %s", older);
    } else if (nearest) {
        sb_hint(err, "did you mean \"%s\"?", nearest);
    } else if (fields == top) {
        sb_hint(err, "the grammar of schemaVersion \"1\" has no such key");
    } else {
        sb_hint(err, "known here: %s", list.data);
    }
}

static int check_map(const struct spot *at, const struct field *fields, const struct ynode *node,
                     struct sb_err **err)
{
    for (size_t i = 0; i < node->count; i++) {
        const struct field *f = fields;
        while (f->key && strcmp(f->key, node->keys[i]->text) != 0) {
            f++;
        }
        struct spot below = {at->kit, at, node->keys[i]->text, 0, at->lenient};
        SB_CLEANUP(buf) struct sb_buf path;
        sb_buf_init(&path, 1024);
        if (f->key) {
            int r = check(&below, f, node->items[i], err);
            if (r < 0) {
                return r;
            }
            continue;
        }
        spot_path(&below, &path);
        if (at->lenient) {
            kit_warn(at->kit, node->keys[i], "unknown field \"%s\" is ignored", path.data);
            continue;
        }
        ytree_fail(at->kit->tree, node->keys[i], err, "field %s not found: unknown field \"%s\"",
                   below.key, path.data);
        hint_keys(fields, node->keys[i]->text, err);
        return SB_ESPEC;
    }
    return 0;
}

static int check_items(const struct spot *at, const struct field *item, const struct ynode *node,
                       struct sb_err **err)
{
    for (size_t i = 0; i < node->count; i++) {
        bool dict = node->kind == YNODE_MAP;
        struct spot below = {at->kit, at, dict ? node->keys[i]->text : "", i, at->lenient};
        int r = check(&below, item, node->items[i], err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool is_number(const struct ynode *node, bool integer)
{
    char *end;
    errno = 0;
    if (integer) {
        long long value = strtoll(node->text, &end, 0);
        return node->plain && *node->text && !*end && errno == 0 && value <= INT32_MAX &&
               value >= INT32_MIN;
    }
    double value = strtod(node->text, &end);
    return node->plain && *node->text && !*end && value >= -1e9 && value <= 1e9;
}

static int wrong_type(const struct spot *at, const struct ynode *node, const char *wanted,
                      struct sb_err **err)
{
    static const char *const names[] = {"nothing", "text", "a list", "a mapping"};
    SB_CLEANUP(buf) struct sb_buf path;
    sb_buf_init(&path, 1024);
    spot_path(at, &path);
    ytree_fail(at->kit->tree, node, err, "%s: must be %s, not %s",
               path.data ? path.data : "the spec", wanted, names[node->kind]);
    if (strcmp(wanted, "a list") == 0) {
        sb_hint(err, node->kind == YNODE_SCALAR ? "put it into brackets: [...]"
                                                : "begin each item with '- '");
    }
    return SB_ESPEC;
}

static int check_scalar(const struct spot *at, enum type type, const struct ynode *node,
                        struct sb_err **err)
{
    static const char *const wanted[] = {"text", "true or false", "a whole number", "a number"};
    bool ignored, ok = node->kind == YNODE_SCALAR;
    if (type == T_BOOL) {
        ok = ok && ynode_to_bool(node, &ignored);
    } else if (type != T_STR) {
        ok = ok && is_number(node, type == T_INT);
    }
    if (ok) {
        return 0;
    }
    if (node->kind != YNODE_SCALAR) {
        return wrong_type(at, node, wanted[type], err);
    }
    SB_CLEANUP(buf) struct sb_buf path;
    sb_buf_init(&path, 1024);
    spot_path(at, &path);
    return ytree_fail(at->kit->tree, node, err, "%s: must be %s, not \"%.40s\"", path.data,
                      wanted[type], node->text);
}

/* A list of one shape or a mapping of another; the reference does not check keys in these two, so
 * here unknown keys are a warning: kits that load there load here. */
static int check_either(const struct spot *at, const struct field *item, const struct ynode *node,
                        const char *wanted, struct sb_err **err)
{
    struct spot here = *at;
    here.lenient = true;
    if (node->kind == YNODE_LIST) {
        return check_items(&here, item, node, err);
    }
    if (node->kind == YNODE_MAP) {
        return item == &a_credential ? check_map(&here, credentials_map, node, err)
                                     : check_items(&here, &a_string, node, err);
    }
    return wrong_type(at, node, wanted, err);
}

static int check(const struct spot *at, const struct field *field, const struct ynode *node,
                 struct sb_err **err)
{
    if (node->kind == YNODE_NULL) {
        return 0; /* the same as absent */
    }
    switch (field->type) {
    case T_STR:
    case T_BOOL:
    case T_INT:
    case T_NUMBER:
        return check_scalar(at, field->type, node, err);
    case T_MAP:
    case T_DICT:
        if (node->kind != YNODE_MAP) {
            return wrong_type(at, node, "a mapping", err);
        }
        return field->type == T_MAP ? check_map(at, field->fields, node, err)
                                    : check_items(at, field->item, node, err);
    case T_LIST:
        return node->kind == YNODE_LIST ? check_items(at, field->item, node, err)
                                        : wrong_type(at, node, "a list", err);
    case T_CREDENTIALS:
        return check_either(at, &a_credential, node, "a mapping with sources: (or a list)", err);
    case T_VOLUMES:
        return check_either(at, &a_volume, node, "a mapping path: size (or a list)", err);
    case T_ANY:
        break;
    }
    return 0;
}

int kit_schema_check(struct kit *kit, struct sb_err **err)
{
    static const struct field whole = {"", MAP_OF(top)};
    struct spot at = {.kit = kit};
    if (kit->top->kind == YNODE_NULL) {
        return ytree_fail_empty(kit->tree, kit->top, err);
    }
    return check(&at, &whole, kit->top, err);
}
