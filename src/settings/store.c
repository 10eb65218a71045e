/* SPDX-License-Identifier: Apache-2.0 */
#include "settings/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"

enum { SETTINGS_MAX = 4 * 1024 * 1024 };

#define FILE_NAME "settings.json"

static int load_at(int folder, json_t **ret, struct sb_err **err)
{
    struct sb_buf text;
    sb_buf_init(&text, SETTINGS_MAX);
    SB_CLEANUP(err) struct sb_err *cause = NULL;
    int r = sb_read_file(folder, FILE_NAME, &text, &cause);
    if (r == -ENOENT) {
        *ret = json_object();
        return 0;
    }
    if (r < 0) {
        sb_buf_wipe(&text);
        return sb_fail(err, r, "settings: %s", cause ? cause->message : "cannot be read");
    }
    /* jansson's message would quote the text around the fault, so only its place is told. */
    json_error_t where = {0};
    SB_CLEANUP(json)
    json_t *all = json_loadb(text.data ? text.data : "", text.len, JSON_REJECT_DUPLICATES, &where);
    sb_buf_wipe(&text);
    if (!json_is_object(all)) {
        r = sb_fail(err, SB_EFAIL, "settings: '" FILE_NAME "' is damaged (line %d)",
                    all ? 1 : where.line);
        sb_hint(err, "remove the file from the 'settings' folder of the configuration and set "
                     "again what it held");
        return r;
    }
    *ret = sb_steal(&all);
    return 0;
}

static int save_at(int folder, const json_t *all, struct sb_err **err)
{
    char *text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!text) {
        return sb_fail(err, SB_EFAIL, "settings: they cannot be written as JSON");
    }
    size_t len = strlen(text);
    int r = len > SETTINGS_MAX
                ? sb_fail(err, SB_ELIMIT, "settings: more than %d bytes in all", SETTINGS_MAX)
                : sb_write_file_atomic(folder, FILE_NAME, text, len, 0600, err);
    explicit_bzero(text, len);
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    release(text);
    return r;
}

int settings_load(json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(fd) int folder = sb_path_private_folder("settings", err);
    return folder < 0 ? folder : load_at(folder, ret, err);
}

int settings_change(const char *key, json_t *value, bool *ret_was_set, struct sb_err **err)
{
    SB_CLEANUP(fd) int folder = sb_path_private_folder("settings", err);
    if (folder < 0) {
        return folder;
    }
    SB_CLEANUP(fd)
    int lock = openat(folder, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0) {
        return sb_fail_errno(err, errno, "settings: lock");
    }
    SB_CLEANUP(json) json_t *all = NULL;
    int r = load_at(folder, &all, err);
    if (r < 0) {
        return r;
    }
    *ret_was_set = json_object_get(all, key) != NULL;
    if (value) {
        json_object_set(all, key, value);
    } else {
        json_object_del(all, key);
    }
    return value || *ret_was_set ? save_at(folder, all, err) : 0;
}
