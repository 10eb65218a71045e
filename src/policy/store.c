/* SPDX-License-Identifier: Apache-2.0
 * Rules files: read with the place of every error, changed line by line under a lock. */
#include "policy/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"

enum { FILE_MAX_BYTES = 16 * 1024 * 1024 };

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

/* A name becomes a part of a path here, so it is checked here whoever has checked it before. */
static int file_path(const char *sandbox, char **ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *config = NULL;
    int r = sb_path_config(&config, err);
    if (r < 0) {
        return r;
    }
    if (sandbox && (sandbox[0] == '\0' || sandbox[0] == '.' || strchr(sandbox, '/'))) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not a sandbox name", sandbox);
    }
    SB_CLEANUP(free) char *dir = sb_xasprintf("%s/policy/sandbox", config);
    r = sb_mkdir_p(AT_FDCWD, dir, 0700);
    if (r < 0) {
        return sb_fail_errno(err, -r, "create directory '%s'", dir);
    }
    *ret = sandbox ? sb_xasprintf("%s/%s.rules", dir, sandbox)
                   : sb_xasprintf("%s/policy/global.rules", config);
    return 0;
}

/* One lock for all rules files; released when the descriptor closes. */
static int lock_files(int *ret_fd, struct sb_err **err)
{
    SB_CLEANUP(free) char *config = NULL;
    int r = sb_path_config(&config, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/policy", config);
    r = sb_mkdir_p(AT_FDCWD, path, 0700);
    if (r < 0) {
        return sb_fail_errno(err, -r, "create directory '%s'", path);
    }
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR) {
            return sb_fail_errno(err, errno, "lock '%s'", path);
        }
    }
    if (fd < 0) {
        return sb_fail_errno(err, errno, "open '%s'", path);
    }
    *ret_fd = sb_steal_fd(&fd);
    return 0;
}

/* A missing file is an empty one. */
static int read_rules_file(const char *path, struct sb_buf *buf, struct sb_err **err)
{
    SB_CLEANUP(err) struct sb_err *why = NULL;
    int r = sb_read_file(AT_FDCWD, path, buf, &why);
    if (r == 0 && buf->len && memchr(buf->data, '\0', buf->len)) {
        return sb_fail(err, SB_EFAIL, "'%s' is not a text file", path);
    }
    if (r == 0 || r == -ENOENT) {
        return 0;
    }
    if (err) {
        sb_err_free(*err);
        *err = sb_steal(&why);
    }
    return r;
}

/* Cuts the next line out of *text (which is modified) and strips the blanks around it. */
static char *next_line(char **text, size_t *ret_indent)
{
    if (!**text) {
        return NULL;
    }
    char *line = *text, *end = strchrnul(line, '\n');
    *text = *end ? end + 1 : end;
    while (end > line && strchr(" \t\r\n", end[-1])) {
        end--;
    }
    *end = '\0';
    *ret_indent = strspn(line, " \t");
    return line + *ret_indent;
}

/* "preset NAME" -> NAME, else NULL. */
static const char *preset_line(const char *line)
{
    size_t word = strcspn(line, " \t");
    if (word != 6 || memcmp(line, "preset", 6) != 0) {
        return NULL;
    }
    return line + word + strspn(line + word, " \t");
}

static void append_rule(json_t *rules, const char *text, const char *origin)
{
    char id[POLICY_ID_MAX];
    policy_rule_id(text, origin, id);
    json_array_append_new(rules,
                          json_pack("{s:s,s:s,s:s}", "text", text, "id", id, "origin", origin));
}

static int unknown_preset(const char *name, struct sb_err **err)
{
    int r = sb_fail(err, SB_EUSAGE, "unknown preset '%s'", name);
    sb_hint(err, "use allow-all, balanced or deny-all");
    return r;
}

/* Appends the rules of a file's text.  *ret_preset is the last preset line's, when wanted. */
static int parse_rules(char *text, const char *path, const char *origin, json_t *rules,
                       const struct preset **ret_preset, struct sb_err **err)
{
    size_t indent = 0, number = 0;
    for (char *line; (line = next_line(&text, &indent));) {
        number++;
        if (*line == '\0' || *line == '#') {
            continue;
        }
        const char *name = ret_preset ? preset_line(line) : NULL;
        if (name) {
            const struct preset *preset = preset_find(name);
            if (!preset) {
                int r = unknown_preset(name, err);
                sb_err_set_place(err, path, number, indent + (size_t)(name - line) + 1,
                                 strlen(name), line - indent);
                return r;
            }
            *ret_preset = preset;
            continue;
        }
        SB_CLEANUP(free) char *canonical = NULL;
        int r = policy_canonical_line(line - indent, &canonical, err);
        if (r < 0) {
            if (err && *err) {
                struct sb_place *place = &(*err)->place;
                SB_CLEANUP(free) char *excerpt = sb_steal(&place->excerpt);
                sb_err_set_place(err, path, number, place->column, place->length, excerpt);
            }
            return r;
        }
        append_rule(rules, canonical, origin);
    }
    return 0;
}

static int load_file(const char *sandbox, json_t *rules, const struct preset **ret_preset,
                     struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    SB_CLEANUP(buf) struct sb_buf buf;
    sb_buf_init(&buf, FILE_MAX_BYTES);
    int r = file_path(sandbox, &path, err);
    if (r == 0) {
        r = read_rules_file(path, &buf, err);
    }
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *text = sb_buf_steal(&buf);
    return parse_rules(text, path, sandbox ? "sandbox" : "global", rules, ret_preset, err);
}

static int load_preset(const struct preset *preset, json_t *rules, struct sb_err **err)
{
    SB_CLEANUP(free) char *text = sb_xstrdup(preset->text);
    SB_CLEANUP(free) char *origin = sb_xasprintf("preset:%s", preset->name);
    return parse_rules(text, origin, origin, rules, NULL, err);
}

int policy_store_rules(const char *sandbox, json_t *rules, bool *ret_defaulted, struct sb_err **err)
{
    const struct preset *preset = NULL;
    SB_CLEANUP(json) json_t *written = json_array();
    SB_CLEANUP(json) json_t *all = json_array();
    int r = load_file(NULL, written, &preset, err);
    if (r == 0 && sandbox) {
        r = load_file(sandbox, written, NULL, err);
    }
    if (r == 0) {
        r = load_preset(preset ? preset : &presets[0], all, err);
    }
    if (r < 0) {
        return r;
    }
    json_array_extend(all, written);
    json_array_extend(rules, all);
    if (ret_defaulted) {
        *ret_defaulted = !preset;
    }
    return 0;
}

int policy_from_json(const json_t *rules, struct policy **ret, struct sb_err **err)
{
    if (!json_is_array(rules)) {
        return sb_fail(err, SB_EPROTO, "policy rules are not a list");
    }
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        const char *text = json_string_value(json_object_get(rule, "text"));
        const char *origin = json_string_value(json_object_get(rule, "origin"));
        const char *id = json_string_value(json_object_get(rule, "id"));
        if (!text || !origin) {
            return sb_fail(err, SB_EPROTO, "policy rule %zu has no text or no origin", i + 1);
        }
        int r = policy_add(policy, text, origin, id, err);
        if (r < 0) {
            return sb_wrap(err, r, "rule %zu of %s", i + 1, origin);
        }
    }
    *ret = sb_steal(&policy);
    return 0;
}

/* A change to one file: `edit` writes the new content to `out` from the old one, `in`. */
typedef int edit_fn(char *in, struct sb_buf *out, void *arg, struct sb_err **err);

static int edit_file(const char *sandbox, edit_fn *edit, void *arg, struct sb_err **err)
{
    SB_CLEANUP(fd) int lock = -1;
    SB_CLEANUP(free) char *path = NULL;
    SB_CLEANUP(buf) struct sb_buf in, out;
    sb_buf_init(&in, FILE_MAX_BYTES);
    sb_buf_init(&out, FILE_MAX_BYTES);
    int r = lock_files(&lock, err);
    if (r == 0) {
        r = file_path(sandbox, &path, err);
    }
    if (r == 0) {
        r = read_rules_file(path, &in, err);
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
        return sb_fail(err, SB_ELIMIT, "'%s' would be larger than %d bytes", path, FILE_MAX_BYTES);
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
    const char *text = arg;
    bool present = false;
    size_t indent = 0;
    for (char *line; (line = next_line(&in, &indent));) {
        SB_CLEANUP(free) char *rule = line_rule(line);
        present |= rule && strcmp(rule, text) == 0;
        put_line(out, line, indent);
    }
    if (!present) {
        put_line(out, text, 0);
    }
    return 0;
}

int policy_canonical_pattern(bool allow, const char *pattern, char **ret, struct sb_err **err)
{
    const char *verb = allow ? "allow " : "deny ";
    SB_CLEANUP(free) char *line = sb_xasprintf("%s%s", verb, pattern);
    int r = policy_canonical_line(line, ret, err);
    /* The caret belongs under what the person wrote, which is the pattern alone. */
    if (r < 0 && err && *err && (*err)->place.excerpt && (*err)->place.column > strlen(verb)) {
        const struct sb_place place = (*err)->place;
        SB_CLEANUP(free) char *excerpt = sb_xstrdup(place.excerpt + strlen(verb));
        sb_err_set_place(err, NULL, 1, place.column - strlen(verb), place.length, excerpt);
    }
    return r;
}

int policy_store_add(const char *sandbox, bool allow, const char *pattern, char **ret_id,
                     struct sb_err **err)
{
    SB_CLEANUP(free) char *text = NULL;
    int r = policy_canonical_pattern(allow, pattern, &text, err);
    if (r < 0) {
        return r;
    }
    r = edit_file(sandbox, edit_add, text, err);
    if (r < 0) {
        return r;
    }
    if (ret_id) {
        char id[POLICY_ID_MAX];
        policy_rule_id(text, sandbox ? "sandbox" : "global", id);
        *ret_id = sb_xstrdup(id);
    }
    return 0;
}

struct removal {
    const char *wanted; /* as the person wrote it: an id, a pattern or a rule */
    const char *origin;
    char *allow_text, *deny_text; /* canonical, NULL when `wanted` is no pattern */
    size_t removed;
};

static bool removal_matches(const struct removal *removal, const char *rule)
{
    char id[POLICY_ID_MAX];
    policy_rule_id(rule, removal->origin, id);
    return strcmp(id, removal->wanted) == 0 || strcmp(rule, removal->wanted) == 0 ||
           (removal->allow_text && strcmp(rule, removal->allow_text) == 0) ||
           (removal->deny_text && strcmp(rule, removal->deny_text) == 0);
}

static int edit_remove(char *in, struct sb_buf *out, void *arg, struct sb_err **err)
{
    (void)err;
    struct removal *removal = arg;
    size_t indent = 0;
    for (char *line; (line = next_line(&in, &indent));) {
        SB_CLEANUP(free) char *rule = line_rule(line);
        if (rule && removal_matches(removal, rule)) {
            removal->removed++;
        } else {
            put_line(out, line, indent);
        }
    }
    return 0;
}

int policy_store_remove(const char *sandbox, const char *id_or_text, size_t *ret_removed,
                        struct sb_err **err)
{
    SB_CLEANUP(free) char *allow = sb_xasprintf("allow %s", id_or_text);
    SB_CLEANUP(free) char *deny = sb_xasprintf("deny %s", id_or_text);
    SB_CLEANUP(free) char *allow_text = line_rule(allow), *deny_text = line_rule(deny);
    struct removal removal = {.wanted = id_or_text,
                              .origin = sandbox ? "sandbox" : "global",
                              .allow_text = allow_text,
                              .deny_text = deny_text};
    int r = edit_file(sandbox, edit_remove, &removal, err);
    if (r < 0) {
        return r;
    }
    *ret_removed = removal.removed;
    return 0;
}

static int edit_preset(char *in, struct sb_buf *out, void *arg, struct sb_err **err)
{
    (void)err;
    const char *name = arg;
    SB_CLEANUP(buf) struct sb_buf rest;
    sb_buf_init(&rest, FILE_MAX_BYTES);
    bool written = false;
    size_t indent = 0;
    for (char *line; (line = next_line(&in, &indent));) {
        if (!preset_line(line)) {
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
    const struct preset *found = preset_find(preset);
    if (!found) {
        return unknown_preset(preset, err);
    }
    SB_CLEANUP(free) char *name = sb_xstrdup(found->name);
    return edit_file(NULL, edit_preset, name, err);
}

int policy_store_forget(const char *sandbox, struct sb_err **err)
{
    SB_CLEANUP(fd) int lock = -1;
    SB_CLEANUP(free) char *path = NULL;
    if (!sandbox) {
        return sb_fail(err, SB_EUSAGE, "global rules are not forgotten");
    }
    int r = lock_files(&lock, err);
    if (r == 0) {
        r = file_path(sandbox, &path, err);
    }
    if (r < 0) {
        return r;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        return sb_fail_errno(err, errno, "remove '%s'", path);
    }
    return 0;
}
