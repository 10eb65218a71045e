/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/state.h"

#include <errno.h>
#include <fcntl.h>

#include "base/fs.h"
#include "sandbox/layout.h"

enum { STATE_MAX = 16 << 20 };

int state_load(const char *name, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/sandbox.json", dir);
    if (access(path, F_OK) < 0) {
        sb_fail(err, SB_ENOTFOUND, "there is no sandbox named '%s'", name);
        sb_hint(err, "'sbx ls' lists sandboxes, 'sbx create shell .' makes one");
        return SB_ENOTFOUND;
    }
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, STATE_MAX);
    r = sb_read_file(AT_FDCWD, path, &text, err);
    if (r < 0) {
        return r;
    }
    json_error_t where;
    json_t *config = json_loadb(text.data ? text.data : "", text.len, 0, &where);
    if (!json_is_object(config)) {
        json_decref(config);
        sb_fail(err, SB_EFAIL, "the state of sandbox '%s' is damaged: %s", name, where.text);
        sb_err_set_place(err, path, (size_t)(where.line > 0 ? where.line : 1), 1, 1, NULL);
        sb_hint(err, "remove it with 'sbx rm -f %s'", name);
        return SB_EFAIL;
    }
    *ret = config;
    return 0;
}

int state_save(const char *name, const json_t *config, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    r = sb_mkdir_p(AT_FDCWD, dir, 0700);
    if (r < 0) {
        return sb_fail_errno(err, -r, "create '%s'", dir);
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/sandbox.json", dir);
    SB_CLEANUP(free) char *text = json_dumps(config, JSON_INDENT(1));
    return sb_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0600, err);
}
