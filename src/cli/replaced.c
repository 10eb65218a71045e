/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/replaced.h"

#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/msg.h"

enum { COMPARED_MAX = 1 << 20, WARNINGS_MAX = 20 };

/* What the step will write; false when that cannot be told here. */
static bool read_new(const json_t *step, struct sb_buf *data)
{
    const char *host_path = sb_json_str(step, "host_path");
    if (host_path) {
        return sb_read_plain_file(host_path, data, NULL) == 0;
    }
    const json_t *content = json_object_get(step, "content");
    sb_buf_append(data, json_string_value(content), json_string_length(content));
    return !data->overflow;
}

static bool is_same(const json_t *step, const char *path)
{
    SB_CLEANUP(buf) struct sb_buf old, new;
    sb_buf_init(&old, COMPARED_MAX);
    sb_buf_init(&new, COMPARED_MAX);
    return sb_read_plain_file(path, &old, NULL) == 0 && read_new(step, &new) &&
           old.len == new.len && (!old.len || memcmp(old.data, new.data, old.len) == 0);
}

static bool is_replaced(const json_t *step, const char *workspace)
{
    const char *op = sb_json_str(step, "op"), *path = sb_json_str(step, "path");
    size_t n = strlen(workspace);
    bool writes = strcmp(op, "write") == 0 || strcmp(op, "init_file") == 0;
    struct stat st;
    return writes && path && strncmp(path, workspace, n) == 0 && path[n] == '/' &&
           !json_is_true(json_object_get(step, "only_if_missing")) && lstat(path, &st) == 0 &&
           !S_ISDIR(st.st_mode) && !is_same(step, path);
}

void cli_warn_replaced(json_t *plan, const char *workspace)
{
    size_t i, count = 0;
    const json_t *step;
    json_array_foreach(json_object_get(plan, "steps"), i, step)
    {
        if (!is_replaced(step, workspace) || ++count > WARNINGS_MAX) {
            continue;
        }
        SB_CLEANUP(free)
        char *text = sb_xasprintf("kit '%s' replaces '%s', which is there already",
                                  sb_json_str(step, "kit"), sb_json_str(step, "path"));
        json_array_append_new(json_object_get(plan, "warnings"),
                              json_pack("{s:s}", "message", text));
    }
}
