/* SPDX-License-Identifier: Apache-2.0
 * Rules files as rules and pins, with the place of every error. */
#include "policy/store.h"

#include <string.h>

#include "base/msg.h"
#include "policy/pin.h"
#include "policy/rules_file.h"

struct preset {
    const char *name, *text;
};

/* Balanced comes first: it is the preset without a preset line. */
static const struct preset presets[] = {
#include "policy/presets.h"
};

static const struct preset *preset_find(const char *name)
{
    for (size_t i = 0; i < SB_ARRAY_LEN(presets); i++) {
        if (strcmp(presets[i].name, name) == 0) {
            return &presets[i];
        }
    }
    return NULL;
}

static void append_rule(json_t *rules, const char *text, const char *origin)
{
    char id[POLICY_ID_MAX];
    policy_rule_id(text, origin, id);
    json_array_append_new(rules,
                          json_pack("{s:s,s:s,s:s}", "text", text, "id", id, "origin", origin));
}

static void append_pin(json_t *pins, const struct pin *pin, const char *origin)
{
    char address[PIN_TEXT_MAX];
    pin_format_address(pin, address);
    json_array_append_new(pins, json_pack("{s:s,s:s,s:s}", "name", pin->name.text, "address",
                                          address, "origin", origin));
}

/* Where rules come from, and what has been read of it. */
struct source {
    const char *path, *origin;
    bool may_choose, may_pin; /* a preset; hosts */
    json_t *rules, *pins;
    const struct preset *preset; /* of the last preset line */
};

static int unknown_preset(const char *name, struct sb_err **err)
{
    int r = sb_fail(err, SB_EUSAGE, "unknown preset '%s'", name);
    sb_hint(err, "use allow-all, balanced or deny-all");
    return r;
}

static int read_preset_line(struct source *source, const char *line, const char *name,
                            struct sb_err **err)
{
    source->preset = preset_find(name);
    if (source->preset) {
        return 0;
    }
    int r = unknown_preset(name, err);
    sb_err_set_place(err, NULL, 1, (size_t)(name - line) + 1, strlen(name), line);
    return r;
}

static int read_pin_line(const struct source *source, const char *line, struct sb_err **err)
{
    struct pin pin;
    int r = pin_parse(line, &pin, err);
    if (r == 0) {
        append_pin(source->pins, &pin, source->origin);
    }
    return r;
}

static int read_rule_line(const struct source *source, const char *line, struct sb_err **err)
{
    SB_CLEANUP(free) char *canonical = NULL;
    if (json_array_size(source->rules) >= POLICY_RULES_MAX) {
        return sb_fail(err, SB_ELIMIT, "more than %d rules", POLICY_RULES_MAX);
    }
    int r = policy_canonical_line(line, &canonical, err);
    if (r == 0) {
        append_rule(source->rules, canonical, source->origin);
    }
    return r;
}

static int read_line(struct source *source, const char *line, size_t indent, struct sb_err **err)
{
    const char *whole = line - indent;
    const char *name = source->may_choose ? rules_preset_line(line) : NULL;
    if (*line == '\0' || *line == '#') {
        return 0;
    }
    if (name) {
        return read_preset_line(source, whole, name, err);
    }
    if (source->may_pin && rules_line_is_pin(line)) {
        return read_pin_line(source, whole, err);
    }
    return read_rule_line(source, whole, err);
}

/* Reads every line of `text`, which is modified. */
static int read_source(struct source *source, char *text, struct sb_err **err)
{
    size_t indent = 0, number = 0;
    for (char *line; (line = rules_next_line(&text, &indent));) {
        number++;
        int r = read_line(source, line, indent, err);
        if (r < 0) {
            if (err && *err) {
                struct sb_place *place = &(*err)->place;
                SB_CLEANUP(free) char *excerpt = sb_steal(&place->excerpt);
                sb_err_set_place(err, source->path, number, place->column, place->length, excerpt);
            }
            return r;
        }
    }
    return 0;
}

static int read_file(const char *sandbox, struct source *source, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    SB_CLEANUP(buf) struct sb_buf buf;
    sb_buf_init(&buf, RULES_FILE_MAX);
    int r = rules_file_path(sandbox, &path, err);
    if (r == 0) {
        r = rules_file_read(path, &buf, err);
    }
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *text = sb_buf_steal(&buf);
    source->path = path;
    source->origin = sandbox ? "sandbox" : "global";
    source->may_choose = !sandbox;
    source->may_pin = true;
    r = read_source(source, text, err);
    source->path = NULL;
    return r;
}

static int read_preset(const struct preset *preset, json_t *rules, struct sb_err **err)
{
    SB_CLEANUP(free) char *text = sb_xstrdup(preset->text);
    SB_CLEANUP(free) char *origin = sb_xasprintf("preset:%s", preset->name);
    struct source source = {.path = origin, .origin = origin, .rules = rules};
    return read_source(&source, text, err);
}

/* Everything that people wrote for a sandbox: the global file, then its own. */
static int read_files(const char *sandbox, struct source *source, struct sb_err **err)
{
    int r = read_file(NULL, source, err);
    return r == 0 && sandbox ? read_file(sandbox, source, err) : r;
}

int policy_store_rules(const char *sandbox, json_t *rules, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *written = json_array();
    SB_CLEANUP(json) json_t *pins = json_array();
    SB_CLEANUP(json) json_t *all = json_array();
    struct source source = {.rules = written, .pins = pins};
    int r = read_files(sandbox, &source, err);
    if (r == 0) {
        r = read_preset(source.preset ? source.preset : &presets[0], all, err);
    }
    if (r < 0) {
        return r;
    }
    json_array_extend(all, written);
    json_array_extend(rules, all);
    return 0;
}

int policy_store_chosen(bool *ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    SB_CLEANUP(buf) struct sb_buf buf;
    sb_buf_init(&buf, RULES_FILE_MAX);
    int r = rules_file_path(NULL, &path, err);
    r = r < 0 ? r : rules_file_read(path, &buf, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *text = sb_buf_steal(&buf);
    char *rest = text;
    size_t indent;
    *ret = false;
    for (char *line; !*ret && (line = rules_next_line(&rest, &indent));) {
        *ret = rules_preset_line(line);
    }
    return 0;
}

int policy_store_pins(const char *sandbox, json_t *pins, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *rules = json_array();
    SB_CLEANUP(json) json_t *found = json_array();
    struct source source = {.rules = rules, .pins = found};
    int r = read_files(sandbox, &source, err);
    if (r == 0) {
        json_array_extend(pins, found);
    }
    return r;
}

static int add_plan_rules(const json_t *list, bool allow, json_t *rules, struct sb_err **err)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *words = sb_json_str(item, "rule"), *kit = sb_json_str(item, "kit");
        SB_CLEANUP(free) char *text = NULL;
        SB_CLEANUP(free) char *origin = sb_xasprintf("kit:%s", kit ? kit : "?");
        int r = policy_canonical_pattern(allow, words ? words : "", &text, err);
        if (r < 0) {
            return sb_wrap(err, r, "rule of %s", origin);
        }
        append_rule(rules, text, origin);
    }
    return 0;
}

int policy_plan_rules(const json_t *plan, json_t *rules, struct sb_err **err)
{
    int r = add_plan_rules(json_object_get(plan, "allow"), true, rules, err);
    return r < 0 ? r : add_plan_rules(json_object_get(plan, "deny"), false, rules, err);
}

bool policy_rules_see_requests(const json_t *rules)
{
    size_t i;
    const json_t *item;
    json_array_foreach(rules, i, item)
    {
        const char *text = sb_json_str(item, "text");
        if (text && strstr(text, " method ")) {
            return true;
        }
    }
    return false;
}

int policy_store_check_preset(const char *name, struct sb_err **err)
{
    return preset_find(name) ? 0 : unknown_preset(name, err);
}
