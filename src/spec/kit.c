/* SPDX-License-Identifier: Apache-2.0
 * The kit itself: the stages from text to model, loading from a directory, accessors. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/text.h"
#include "spec/schema.h"

void kit_free(struct kit *kit)
{
    if (!kit) {
        return;
    }
    json_decref(kit->model);
    json_decref(kit->files);
    json_decref(kit->warnings);
    ytree_free(kit->tree);
    free(kit->file);
    free(kit);
}

/* Line 0: about the kit as a whole. */
static void warn_at(struct kit *kit, size_t line, size_t column, const char *message)
{
    enum { WARNINGS_MAX = 200 }; /* a hostile spec must not make more output than a person reads */
    if (json_array_size(kit->warnings) >= WARNINGS_MAX) {
        return;
    }
    SB_CLEANUP(free) char *excerpt = line ? ytree_excerpt(kit->tree, line) : NULL;
    json_array_append_new(kit->warnings,
                          json_pack("{s:s, s:I, s:I, s:s, s:s*}", "file", kit->file, "line",
                                    (json_int_t)line, "column", (json_int_t)column, "message",
                                    message, "excerpt", excerpt));
}

void kit_warn(struct kit *kit, const struct ynode *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    SB_CLEANUP(free) char *message = ytree_message(format, args);
    va_end(args);
    warn_at(kit, node->line, node->column, message);
}

void kit_warn_file(struct kit *kit, const char *name)
{
    SB_CLEANUP(free) char *shown = sb_printable(name, "");
    SB_CLEANUP(free)
    char *message = sb_xasprintf("files/%.80s is ignored: only files/home and files/workspace are "
                                 "copied",
                                 shown);
    warn_at(kit, 0, 0, message);
}

/* The version decides which grammar the rest is read by, so it is looked at first. */
static int check_version(const struct kit *kit, struct sb_err **err)
{
    const struct ynode *node = ynode_get(kit->top, "schemaVersion");
    if (kit->top->kind != YNODE_MAP || !node || !node->text || !node->text[0]) {
        return 0; /* reported by the later stages, with a better message */
    }
    if (strcmp(node->text, "1") == 0) {
        return 0;
    }
    if (strcmp(node->text, "2") == 0 || strcmp(node->text, "3") == 0) {
        ytree_fail(kit->tree, node, err,
                   "unsupported schemaVersion \"%s\" (supported: \"1\"): this grammar is on the "
                   "roadmap, but this version of sbx does not read it",
                   node->text);
        sb_hint(err, "write the kit in the grammar of schemaVersion \"1\"");
        return SB_ESPEC;
    }
    ytree_fail(kit->tree, node, err, "unsupported schemaVersion \"%.40s\" (supported: \"1\")",
               node->text);
    sb_hint(err, "write: schemaVersion: \"1\"");
    return SB_ESPEC;
}

int kit_parse(const char *file, const char *text, size_t len, struct kit **ret, struct sb_err **err)
{
    SB_CLEANUP(kit) struct kit *kit = sb_xcalloc(1, sizeof(*kit));
    kit->file = sb_xstrdup(file);
    kit->warnings = json_array();
    kit->files = json_array();
    int r = ytree_parse(file, text, len, &kit->tree, err);
    if (r < 0) {
        return r;
    }
    kit->top = ytree_root(kit->tree);
    if (ytree_second_document(kit->tree)) {
        warn_at(kit, ytree_second_document(kit->tree), 1,
                "a second YAML document begins here: nothing of it is read");
    }
    r = check_version(kit, err);
    r = r < 0 ? r : kit_schema_check(kit, err);
    r = r < 0 ? r : kit_validate(kit, err);
    r = r < 0 ? r : kit_normalize(kit, err);
    if (r == 0) {
        *ret = sb_steal(&kit);
    }
    return r;
}

/* Of the name itself: a link to nowhere is there, and so may be what cannot be looked at. */
static bool is_absent(const char *file)
{
    struct stat st;
    return lstat(file, &st) < 0 && errno == ENOENT;
}

/* DIR/spec.yaml, and only when there is none DIR/spec.yml. */
static int read_spec(const char *dir, struct sb_buf *text, char **ret_file, struct sb_err **err)
{
    SB_CLEANUP(free) char *file = sb_xasprintf("%s/spec.yaml", dir);
    if (is_absent(file)) {
        SB_CLEANUP(free) char *second = sb_xasprintf("%s/spec.yml", dir);
        if (is_absent(second)) {
            sb_fail(err, SB_ENOTFOUND, "%s: no spec.yaml (or spec.yml) in this directory", dir);
            sb_hint(err, "a kit is a directory that holds a spec.yaml");
            return SB_ENOTFOUND;
        }
        free(file);
        file = sb_steal(&second);
    }
    int r = sb_read_file(AT_FDCWD, file, text, err);
    if (r == SB_ELIMIT) {
        sb_hint(err, "put what is large into files below files/");
    } else if (r < 0 && access(file, F_OK) < 0 && errno == ENOENT) {
        sb_hint(err, "it is a link that leads nowhere");
    }
    if (r < 0) {
        return r;
    }
    *ret_file = sb_steal(&file);
    return 0;
}

int kit_load_dir(const char *dir, struct kit **ret, struct sb_err **err)
{
    struct stat st;
    if (stat(dir, &st) < 0) {
        int r = sb_fail_errno(err, errno, "kit '%s'", dir);
        sb_hint(err, "name the directory that holds the kit's spec.yaml");
        return r;
    }
    if (!S_ISDIR(st.st_mode)) {
        sb_fail(err, SB_EUSAGE, "kit '%s' is not a directory", dir);
        sb_hint(err, "name the directory that holds the kit's spec.yaml");
        return SB_EUSAGE;
    }
    SB_CLEANUP(free) char *real = realpath(dir, NULL), *file = NULL;
    if (!real) {
        return sb_fail_errno(err, errno, "kit '%s'", dir);
    }
    SB_CLEANUP(json) json_t *utf8 = json_string(dir);
    if (!utf8) {
        return sb_fail(err, SB_EUSAGE, "the path of a kit must be valid UTF-8");
    }
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, YTREE_MAX_BYTES);
    SB_CLEANUP(kit) struct kit *kit = NULL;
    int r = read_spec(dir, &text, &file, err);
    r = r < 0 ? r : kit_parse(file, text.data ? text.data : "", text.len, &kit, err);
    r = r < 0 ? r : kit_enumerate_files(kit, real, err);
    if (r == 0) {
        *ret = sb_steal(&kit);
    }
    return r;
}

const char *kit_name(const struct kit *kit)
{
    return sb_json_str(kit->model, "name");
}

const char *kit_kind(const struct kit *kit)
{
    return sb_json_str(kit->model, "kind");
}

const json_t *kit_warnings(const struct kit *kit)
{
    return kit->warnings;
}

const json_t *kit_model(const struct kit *kit)
{
    return kit->model;
}

const json_t *kit_files(const struct kit *kit)
{
    return kit->files;
}

void kit_set_place(const struct kit *kit, size_t line, const char *text, struct sb_err **err)
{
    const struct ynode *node = ytree_find(kit->tree, line, text);
    if (!node) {
        sb_err_set_place(err, kit->file, line, 1, 0, NULL);
        return;
    }
    SB_CLEANUP(free) char *excerpt = ytree_excerpt(kit->tree, node->line);
    sb_err_set_place(err, kit->file, node->line, node->column, node->length, excerpt);
}
