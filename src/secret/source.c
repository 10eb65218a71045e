/* SPDX-License-Identifier: Apache-2.0 */
#include "secret/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"
#include "secret/store.h"

static int parse_raw(const struct sb_buf *text, struct sb_buf *ret_value)
{
    static const char blank[] = " \t\r\n\v\f";
    const char *start = text->data ? text->data : "";
    const char *end = start + text->len;
    while (start < end && strchr(blank, *start) && *start) {
        start++;
    }
    while (end > start && end[-1] && strchr(blank, end[-1])) {
        end--;
    }
    sb_buf_append(ret_value, start, (size_t)(end - start));
    return 0;
}

static int append_scalar(const json_t *leaf, const char *field, struct sb_buf *ret_value,
                         struct sb_err **err)
{
    if (json_is_string(leaf)) {
        sb_buf_append(ret_value, json_string_value(leaf), json_string_length(leaf));
    } else if (json_is_boolean(leaf)) {
        sb_buf_puts(ret_value, json_is_true(leaf) ? "true" : "false");
    } else if (json_is_integer(leaf)) {
        sb_buf_printf(ret_value, "%lld", (long long)json_integer_value(leaf));
    } else if (json_is_real(leaf)) {
        sb_buf_printf(ret_value, "%.17g", json_real_value(leaf));
    } else {
        return sb_fail(err, SB_EFAIL, "field '%s' is not a string value", field);
    }
    return 0;
}

static int parse_json(const char *path, const struct sb_buf *text, struct sb_buf *ret_value,
                      struct sb_err **err)
{
    json_error_t where;
    SB_CLEANUP(json)
    json_t *root = json_loadb(text->data ? text->data : "", text->len, JSON_DECODE_ANY, &where);
    if (!root) {
        /* jansson's message would quote the text around the fault: only the place is told. */
        return sb_fail(err, SB_EFAIL, "failed to parse JSON: line %d, column %d", where.line,
                       where.column);
    }
    const json_t *node = root;
    for (const char *p = path;; p++) {
        size_t n = strcspn(p, ".");
        SB_CLEANUP(free) char *field = sb_xstrndup(p, n);
        if (!json_is_object(node)) {
            return sb_fail(err, SB_EFAIL, "cannot navigate to field '%s': not an object", field);
        }
        node = json_object_get(node, field);
        if (!node) {
            return sb_fail(err, SB_EFAIL, "field '%s' not found in JSON", field);
        }
        p += n;
        if (!*p) {
            return append_scalar(node, field, ret_value, err);
        }
    }
}

int secret_parse_text(const char *parser, const struct sb_buf *text, struct sb_buf *ret_value,
                      struct sb_err **err)
{
    if (!*parser || strcmp(parser, "raw") == 0) {
        return parse_raw(text, ret_value);
    }
    if (strncmp(parser, "json:", 5) == 0 && parser[5]) {
        return parse_json(parser + 5, text, ret_value, err);
    }
    return sb_fail(err, SB_EFAIL, "unsupported parser: %.64s", parser);
}

int secret_read_env(const char *const *names, size_t count, struct sb_buf *ret_value,
                    struct sb_err **err)
{
    for (size_t i = 0; i < count && names[i]; i++) {
        const char *value = secure_getenv(names[i]);
        if (!value || !*value) {
            continue;
        }
        const char *problem = secret_value_problem(value, strlen(value));
        if (problem) {
            return sb_fail(err, SB_EFAIL, "environment variable %s cannot be used: %s", names[i],
                           problem);
        }
        sb_buf_puts(ret_value, value);
        return 1;
    }
    return 0;
}

static int read_env_list(const json_t *list, struct sb_buf *ret_value, struct sb_err **err)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(item);
        int r = name ? secret_read_env(&name, 1, ret_value, err) : 0;
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static int host_path(const char *path, char **ret, struct sb_err **err)
{
    if (path[0] == '~' && (path[1] == '/' || !path[1])) {
        *ret = sb_xasprintf("%s%s", sb_home(), path + 1);
        return 0;
    }
    if (path[0] != '/') {
        return sb_fail(err, SB_EFAIL,
                       "credential file '%.200s': expected a path that begins with "
                       "'/' or '~/'",
                       path);
    }
    *ret = sb_xstrdup(path);
    return 0;
}

static int read_file(const json_t *file, struct sb_buf *ret_value, struct sb_err **err)
{
    const char *path = sb_json_str(file, "path"), *parser = sb_json_str(file, "parser");
    if (!path || !*path) {
        return 0;
    }
    SB_CLEANUP(free) char *full = NULL;
    int r = host_path(path, &full, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(wipe) struct sb_buf text, value;
    sb_buf_init(&text, SECRET_FILE_MAX);
    sb_buf_init(&value, SECRET_FILE_MAX);
    SB_CLEANUP(err) struct sb_err *cause = NULL;
    r = sb_read_file(AT_FDCWD, full, &text, &cause);
    if (r == -ENOENT || r == -ENOTDIR) {
        return 0;
    }
    if (r == 0) {
        r = secret_parse_text(parser ? parser : "", &text, &value, &cause);
    }
    const char *problem = NULL;
    if (r == 0) {
        problem = secret_value_problem(value.data ? value.data : "", value.len);
    }
    if (r < 0 || problem) {
        return sb_fail(err, SB_EFAIL, "credential file '%s': %s", path,
                       problem ? problem : cause->message);
    }
    sb_buf_append(ret_value, value.data, value.len);
    return 1;
}

int secret_read_sources(const json_t *sources, struct sb_buf *ret_value, struct sb_err **err)
{
    const json_t *env = json_object_get(sources, "env"), *file = json_object_get(sources, "file");
    const char *priority = sb_json_str(sources, "priority");
    bool file_first = priority && strcmp(priority, "file-first") == 0;
    int r = file_first ? read_file(file, ret_value, err) : read_env_list(env, ret_value, err);
    if (r != 0) {
        return r;
    }
    return file_first ? read_env_list(env, ret_value, err) : read_file(file, ret_value, err);
}
