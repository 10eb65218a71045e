/* SPDX-License-Identifier: Apache-2.0 */
#include "secret/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/msg.h"
#include "base/paths.h"

#define SCOPE_PREFIX "sandbox."
#define SCOPE_SUFFIX ".json"

const char *secret_value_problem(const char *value, size_t len)
{
    if (len == 0) {
        return "it is empty";
    }
    if (len > SECRET_VALUE_MAX) {
        return "it is longer than 64 KiB";
    }
    if (memchr(value, '\0', len) || memchr(value, '\r', len) || memchr(value, '\n', len)) {
        return "it holds a line break or a NUL byte, which no header can carry";
    }
    SB_CLEANUP(json) json_t *text = json_stringn(value, len);
    return text ? NULL : "it is not UTF-8 text";
}

/* A name becomes a file name: nothing that could leave the folder. */
static bool scope_valid(const char *sandbox)
{
    size_t len = strlen(sandbox);
    return len > 0 && len <= 128 && sandbox[0] != '.' &&
           strspn(sandbox, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
               len;
}

static int file_name(const char *sandbox, char **ret, struct sb_err **err)
{
    if (!sandbox) {
        *ret = sb_xstrdup("global.json");
        return 0;
    }
    if (!scope_valid(sandbox)) {
        return sb_fail(err, SB_EUSAGE, "'%.128s' is not the name of a sandbox", sandbox);
    }
    *ret = sb_xasprintf(SCOPE_PREFIX "%s" SCOPE_SUFFIX, sandbox);
    return 0;
}

/* Before there were rules a custom secret had one host, where its placeholder was replaced. */
static void give_rules(json_t *content)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(content, "custom"), i, entry)
    {
        const char *host = sb_json_str(entry, "host");
        if (host && !json_object_get(entry, "rules")) {
            json_object_set_new(entry, "rules",
                                json_pack("[{s:s, s:s}]", "host", host, "mode", "placeholder"));
            json_object_del(entry, "host");
        }
    }
}

static int load_at(int folder, const char *name, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(wipe) struct sb_buf buf;
    sb_buf_init(&buf, SECRET_STORE_MAX);
    struct sb_err *cause = NULL;
    int r = sb_read_file(folder, name, &buf, &cause);
    if (r == -ENOENT) {
        sb_err_free(cause);
        *ret = json_pack("{s:i, s:{}, s:[]}", "version", 1, "services", "custom");
        return 0;
    }
    if (r < 0) {
        if (err) {
            *err = cause;
            return sb_wrap(err, r, "secret store");
        }
        sb_err_free(cause);
        return r;
    }
    /* jansson's own message would quote the text around the fault, so only its place is told. */
    json_error_t where;
    SB_CLEANUP(json)
    json_t *content = json_loadb(buf.data ? buf.data : "", buf.len, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(json_object_get(content, "services")) ||
        !json_is_array(json_object_get(content, "custom"))) {
        sb_fail(err, SB_EFAIL, "secret store: '%s' is damaged (line %d)", name,
                content ? 1 : where.line);
        sb_hint(err, "remove the file from the 'secrets' folder of the configuration and set its "
                     "secrets again");
        return SB_EFAIL;
    }
    give_rules(content);
    *ret = sb_steal(&content);
    return 0;
}

static int save_at(int folder, const char *name, const json_t *content, struct sb_err **err)
{
    char *text = json_dumps(content, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!text) {
        return sb_fail(err, SB_EFAIL, "secret store: '%s' cannot be written as JSON", name);
    }
    size_t len = strlen(text);
    int r = len > SECRET_STORE_MAX
                ? sb_fail(err, SB_ELIMIT, "secret store: '%s' would be larger than %d bytes", name,
                          SECRET_STORE_MAX)
                : sb_write_file_atomic(folder, name, text, len, 0600, err);
    explicit_bzero(text, len);
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    release(text);
    return r;
}

/* Holds the lock until the descriptor is closed. */
static int lock_folder(int folder, struct sb_err **err)
{
    SB_CLEANUP(fd) int fd = openat(folder, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return sb_fail_errno(err, errno, "secret store: open 'lock'");
    }
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR) {
            return sb_fail_errno(err, errno, "secret store: lock");
        }
    }
    return sb_steal_fd(&fd);
}

int secret_store_load(const char *sandbox, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *name = NULL;
    int r = file_name(sandbox, &name, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd) int folder = sb_path_private_folder("secrets", err);
    return folder < 0 ? folder : load_at(folder, name, ret, err);
}

/* The file of a scope, with the lock that whoever changes one holds. */
struct held_file {
    char *name; /* in `folder` */
    int folder, lock;
};

static void sb_cleanup_held_file(struct held_file *file)
{
    free(file->name);
    sb_cleanup_fd(&file->lock);
    sb_cleanup_fd(&file->folder);
}

static int hold_file(const char *sandbox, struct held_file *ret, struct sb_err **err)
{
    *ret = (struct held_file){.folder = -1, .lock = -1};
    int r = file_name(sandbox, &ret->name, err);
    if (r == 0) {
        r = ret->folder = sb_path_private_folder("secrets", err);
    }
    if (r >= 0) {
        r = ret->lock = lock_folder(ret->folder, err);
    }
    return r < 0 ? r : 0;
}

int secret_store_change(const char *sandbox, secret_store_change_fn *change, void *arg,
                        struct sb_err **err)
{
    SB_CLEANUP(held_file) struct held_file file;
    SB_CLEANUP(json) json_t *content = NULL;
    int r = hold_file(sandbox, &file, err);
    r = r < 0 ? r : load_at(file.folder, file.name, &content, err);
    r = r < 0 ? r : change(content, arg, err);
    return r > 0 ? save_at(file.folder, file.name, content, err) : r;
}

int secret_store_remove(const char *sandbox, struct sb_err **err)
{
    SB_CLEANUP(held_file) struct held_file file;
    int r = hold_file(sandbox, &file, err);
    if (r == 0 && unlinkat(file.folder, file.name, 0) < 0 && errno != ENOENT) {
        r = sb_fail_errno(err, errno, "secret store: remove '%s'", file.name);
    }
    return r;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool scope_of_file(const char *file, char **ret)
{
    size_t len = strlen(file), prefix = strlen(SCOPE_PREFIX), suffix = strlen(SCOPE_SUFFIX);
    if (len <= prefix + suffix || strncmp(file, SCOPE_PREFIX, prefix) != 0 ||
        strcmp(file + len - suffix, SCOPE_SUFFIX) != 0) {
        return false;
    }
    *ret = sb_xstrndup(file + prefix, len - prefix - suffix);
    return true;
}

int secret_store_sandboxes(json_t **ret, struct sb_err **err)
{
    int folder = sb_path_private_folder("secrets", err);
    if (folder < 0) {
        return folder;
    }
    DIR *dir = fdopendir(folder);
    if (!dir) {
        int saved = errno;
        close(folder);
        return sb_fail_errno(err, saved, "secret store: list");
    }
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char *name;
        if (scope_of_file(e->d_name, &name)) {
            names = sb_xrealloc(names, count + 1, sizeof(*names));
            names[count++] = name;
        }
    }
    closedir(dir);
    json_t *array = json_array();
    if (count) {
        qsort(names, count, sizeof(*names), compare_names);
    }
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, json_string(names[i]));
        free(names[i]);
    }
    free(names);
    *ret = array;
    return 0;
}
