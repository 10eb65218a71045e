/* SPDX-License-Identifier: Apache-2.0
 * Changing rules files line by line, under a lock. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fs.h"
#include "base/msg.h"
#include "policy/pin.h"
#include "policy/rule.h"
#include "policy/rules_file.h"
#include "policy/store.h"

/* A change to one file: `edit` writes the new content to `out` from the old one, `in`. */
typedef int edit_fn(char *in, struct sb_buf *out, void *arg, struct sb_err **err);

static int edit_file(const char *sandbox, edit_fn *edit, void *arg, struct sb_err **err)
{
    SB_CLEANUP(fd) int lock = -1;
    SB_CLEANUP(free) char *path = NULL;
    SB_CLEANUP(buf) struct sb_buf in, out;
    sb_buf_init(&in, RULES_FILE_MAX);
    sb_buf_init(&out, RULES_FILE_MAX);
    int r = rules_files_lock(&lock, err);
    if (r == 0) {
        r = rules_file_path(sandbox, &path, err);
    }
    if (r == 0) {
        r = rules_file_read(path, &in, err);
    }
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *old = sb_buf_steal(&in), *copy = sb_xstrdup(old);
    r = edit(copy, &out, arg, err);
    if (r < 0) {
        return r;
    }
    if (out.overflow) {
        return sb_fail(err, SB_ELIMIT, "'%s' would be larger than %d bytes", path, RULES_FILE_MAX);
    }
    SB_CLEANUP(free) char *fresh = sb_buf_steal(&out);
    if (strcmp(old, fresh) == 0) {
        return 0;
    }
    return sb_write_file_atomic(AT_FDCWD, path, fresh, strlen(fresh), 0600, err);
}

/* The canonical text of a line of a rules file, or NULL when it holds no valid rule. */
static char *line_rule(const char *line)
{
    char *text = NULL;
    return policy_canonical_line(line, &text, NULL) < 0 ? NULL : text;
}

static void put_line(struct sb_buf *out, const char *line, size_t indent)
{
    sb_buf_puts(out, line - indent);
    sb_buf_append(out, "\n", 1);
}

static int edit_add(char *in, struct sb_buf *out, void *arg, struct sb_err **err)
{
    (void)err;
    const json_t *rules = arg;
    SB_CLEANUP(json) json_t *present = json_object();
    size_t indent = 0, i;
    for (char *line; (line = rules_next_line(&in, &indent));) {
        SB_CLEANUP(free) char *rule = line_rule(line);
        if (rule) {
            json_object_set_new(present, rule, json_true());
        }
        put_line(out, line, indent);
    }
    const json_t *item;
    json_array_foreach(rules, i, item)
    {
        const char *rule = json_string_value(item);
        if (!json_object_get(present, rule)) {
            json_object_set_new(present, rule, json_true());
            put_line(out, rule, 0);
        }
    }
    return 0;
}

int policy_store_add(const char *sandbox, const json_t *rules, struct sb_err **err)
{
    return edit_file(sandbox, edit_add, (void *)(uintptr_t)rules, err);
}

/* ---- removing ---- */

struct removal {
    const struct policy_selection *selection;
    const char *origin;
    char *rule, *pattern; /* canonical; NULL where the person's words are none */
    json_t *removed;
};

/* "allow a.com method GET" -> "a.com" */
static char *pattern_of(const char *text)
{
    size_t verb = strcspn(text, " ") + 1;
    return sb_xstrndup(text + verb, strcspn(text + verb, " "));
}

static void read_selection(struct removal *removal)
{
    const struct policy_selection *selection = removal->selection;
    const char *pattern = selection->resource ? selection->resource : selection->word;
    removal->rule = selection->word ? line_rule(selection->word) : NULL;
    SB_CLEANUP(free) char *text = NULL;
    if (pattern && policy_canonical_pattern(true, pattern, &text, NULL) == 0) {
        removal->pattern = pattern_of(text);
    }
}

static bool id_matches(const struct removal *removal, const char *text)
{
    const struct policy_selection *selection = removal->selection;
    const char *wanted = selection->id ? selection->id : selection->word;
    char id[POLICY_ID_MAX];
    policy_rule_id(text, removal->origin, id);
    return wanted && strcmp(id, wanted) == 0;
}

/* Are the methods and the path those that were said, where they were? */
static bool request_matches(const struct policy_selection *selection, const char *text)
{
    SB_CLEANUP(free) char *wanted = NULL;
    SB_CLEANUP(rule) struct rule rule = {0}, like = {0};
    if (!selection->methods && !selection->path) {
        return true;
    }
    const struct policy_words words = {
        .pattern = "**",
        .methods = selection->methods ? selection->methods : "ANY",
        .path = selection->path,
    };
    if (rule_parse(text, &rule, NULL) < 0 ||
        policy_canonical_words(true, &words, &wanted, NULL) < 0 ||
        rule_parse(wanted, &like, NULL) < 0 || !rule.methods) {
        return false;
    }
    return (!selection->methods || rule.methods == like.methods) &&
           (!selection->path || strcmp(rule.path, like.path) == 0);
}

static bool removal_matches(const struct removal *removal, const char *text)
{
    SB_CLEANUP(free) char *pattern = pattern_of(text);
    bool named = id_matches(removal, text) || (removal->rule && strcmp(text, removal->rule) == 0) ||
                 (removal->pattern && strcmp(pattern, removal->pattern) == 0);
    return named && request_matches(removal->selection, text);
}

static int edit_remove(char *in, struct sb_buf *out, void *arg, struct sb_err **err)
{
    (void)err;
    struct removal *removal = arg;
    size_t indent = 0;
    for (char *line; (line = rules_next_line(&in, &indent));) {
        SB_CLEANUP(free) char *text = line_rule(line);
        if (text && removal_matches(removal, text)) {
            json_array_append_new(removal->removed, json_string(text));
        } else {
            put_line(out, line, indent);
        }
    }
    return 0;
}

int policy_store_remove(const char *sandbox, const struct policy_selection *selection,
                        json_t *removed, struct sb_err **err)
{
    struct removal removal = {
        .selection = selection, .origin = sandbox ? "sandbox" : "global", .removed = removed};
    read_selection(&removal);
    int r = edit_file(sandbox, edit_remove, &removal, err);
    free(removal.rule);
    free(removal.pattern);
    return r;
}

/* ---- pins ---- */

struct pinning {
    const char *name; /* canonical */
    char *line;       /* NULL: take the name's pin away */
    bool removed;
};

static int edit_pin(char *in, struct sb_buf *out, void *arg, struct sb_err **err)
{
    (void)err;
    struct pinning *pinning = arg;
    size_t indent = 0;
    for (char *line; (line = rules_next_line(&in, &indent));) {
        struct pin pin;
        bool same = rules_line_is_pin(line) && pin_parse(line, &pin, NULL) == 0 &&
                    strcmp(pin.name.text, pinning->name) == 0;
        pinning->removed |= same;
        if (!same) {
            put_line(out, line, indent);
        }
    }
    if (pinning->line) {
        put_line(out, pinning->line, 0);
    }
    return 0;
}

/* The error of a parser that saw one word. */
static int in_word(struct sb_err **err, const char *word, int code)
{
    if (code < 0 && err && *err) {
        const struct sb_place place = (*err)->place;
        sb_err_set_place(err, NULL, 1, place.column, place.length, word);
    }
    return code;
}

int policy_store_pin(const char *sandbox, const char *name, const char *address,
                     struct sb_err **err)
{
    struct pin pin;
    int r = in_word(err, name, pin_parse_name(name, strlen(name), &pin.name, err));
    if (r < 0) {
        return r;
    }
    r = in_word(err, address, pin_parse_address(address, strlen(address), &pin, err));
    if (r < 0) {
        return r;
    }
    char target[PIN_TEXT_MAX];
    pin_format_address(&pin, target);
    SB_CLEANUP(free) char *line = sb_xasprintf("host %s %s", pin.name.text, target);
    struct pinning pinning = {.name = pin.name.text, .line = line};
    return edit_file(sandbox, edit_pin, &pinning, err);
}

int policy_store_unpin(const char *sandbox, const char *name, bool *ret_removed,
                       struct sb_err **err)
{
    struct host host;
    int r = in_word(err, name, pin_parse_name(name, strlen(name), &host, err));
    if (r < 0) {
        return r;
    }
    struct pinning pinning = {.name = host.text};
    r = edit_file(sandbox, edit_pin, &pinning, err);
    *ret_removed = pinning.removed;
    return r;
}

/* ---- presets ---- */

static int edit_preset(char *in, struct sb_buf *out, void *arg, struct sb_err **err)
{
    (void)err;
    const char *name = arg;
    SB_CLEANUP(buf) struct sb_buf rest;
    sb_buf_init(&rest, RULES_FILE_MAX);
    bool written = false;
    size_t indent = 0;
    for (char *line; (line = rules_next_line(&in, &indent));) {
        if (!rules_preset_line(line)) {
            put_line(&rest, line, indent);
        } else if (!written) {
            sb_buf_printf(&rest, "preset %s\n", name);
            written = true;
        }
    }
    if (!written) {
        sb_buf_printf(out, "preset %s\n", name);
    }
    sb_buf_append(out, rest.data, rest.len);
    out->overflow |= rest.overflow;
    return 0;
}

int policy_store_set_preset(const char *preset, struct sb_err **err)
{
    int r = policy_store_check_preset(preset, err);
    return r < 0 ? r : edit_file(NULL, edit_preset, (void *)(uintptr_t)preset, err);
}

int policy_store_forget(const char *sandbox, struct sb_err **err)
{
    SB_CLEANUP(fd) int lock = -1;
    SB_CLEANUP(free) char *path = NULL;
    if (!sandbox) {
        return sb_fail(err, SB_EUSAGE, "global rules are not forgotten");
    }
    int r = rules_files_lock(&lock, err);
    if (r == 0) {
        r = rules_file_path(sandbox, &path, err);
    }
    if (r < 0) {
        return r;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        return sb_fail_errno(err, errno, "remove '%s'", path);
    }
    return 0;
}
