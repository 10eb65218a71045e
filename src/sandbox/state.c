/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>

#include "base/fs.h"
#include "base/msg.h"
#include "base/nearest.h"
#include "base/text.h"
#include "sandbox/layout.h"

#define STATE_READY      "sandbox.json"
#define STATE_CREATING   "creating.json"
#define STATE_ENDED      "ended"
#define STATE_UNFINISHED "unfinished"

enum { STATE_MAX = 16 << 20, REASON_MAX = 4096, LOCK_TRIES = 500, LOCK_NAP_NS = 10000000 };

/* Its file, and whether it is finished: it has another name until then.  That may change between
 * two looks, but only once. */
static int find_file(const char *dir, char **ret_path, bool *ret_ready)
{
    static const char *const files[] = {STATE_READY, STATE_CREATING, STATE_READY};
    for (size_t i = 0; i < SB_ARRAY_LEN(files); i++) {
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", dir, files[i]);
        if (access(path, F_OK) == 0) {
            *ret_path = sb_steal(&path);
            *ret_ready = strcmp(files[i], STATE_READY) == 0;
            return 0;
        }
    }
    return -ENOENT;
}

static int is_sandbox(const struct dirent *entry)
{
    return sandbox_name_valid(entry->d_name);
}

/* `dir` is where it would be, beside the others. */
static int fail_missing(const char *name, const char *dir, struct sb_err **err)
{
    sb_fail(err, SB_ENOTFOUND, "there is no sandbox named '%s'", name);
    SB_CLEANUP(free) char *base = sb_xstrndup(dir, strlen(dir) - strlen(name));
    struct dirent **entries = NULL;
    int found = scandir(base, &entries, is_sandbox, alphasort);
    size_t count = found < 0 ? 0 : (size_t)found;
    SB_CLEANUP(free) const char **names = sb_xcalloc(count + 1, sizeof(*names));
    for (size_t i = 0; i < count; i++) {
        names[i] = entries[i]->d_name;
    }
    const char *nearest = sb_nearest(name, names, count);
    if (nearest) {
        sb_hint(err, "did you mean '%s'? 'sbx ls' lists the sandboxes", nearest);
    } else {
        sb_hint(err, "'sbx ls' lists sandboxes, 'sbx create shell .' makes one");
    }
    for (size_t i = 0; i < count; i++) {
        free(entries[i]);
    }
    free(entries);
    return SB_ENOTFOUND;
}

int state_load(const char *name, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    SB_CLEANUP(free) char *path = NULL;
    bool ready;
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    if (find_file(dir, &path, &ready) < 0) {
        return err ? fail_missing(name, dir, err) : SB_ENOTFOUND;
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
    json_object_set_new(config, "ready", json_boolean(ready));
    *ret = config;
    return 0;
}

int state_write(const char *dir, const json_t *config, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/" STATE_CREATING, dir);
    SB_CLEANUP(free) char *text = json_dumps(config, JSON_INDENT(1));
    SB_CLEANUP(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : sb_write_all(fd, text, strlen(text));
    return r < 0 ? sb_fail_errno(err, -r, "write '%s'", path) : 0;
}

int state_finish(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *creating = sb_xasprintf("%s/" STATE_CREATING, dir);
    SB_CLEANUP(free) char *ready = sb_xasprintf("%s/" STATE_READY, dir);
    return rename(creating, ready) < 0 ? sb_fail_errno(err, errno, "write '%s'", ready) : 0;
}

bool state_is_ready(const json_t *config)
{
    return json_is_true(json_object_get(config, "ready"));
}

void state_sign_lock(int fd)
{
    int length =
        ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0 ? -1 : dprintf(fd, "%d\n", getpid());
    (void)length; /* without it the lock is as good */
}

long state_lock_holder(int fd)
{
    char text[16] = "";
    return pread(fd, text, sizeof(text) - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
}

static int fail_held(const char *name, int fd, struct sb_err **err)
{
    long pid = state_lock_holder(fd);
    sb_fail(err, SB_ESTART, "process %ld still runs sandbox '%s', but its socket is gone", pid,
            name);
    sb_hint(err, "end it first: kill %ld", pid);
    return SB_ESTART;
}

bool state_is_vm(const json_t *config)
{
    const char *isolation = sb_json_str(config, "isolation");
    return isolation && strcmp(isolation, "vm") == 0;
}

static char *reason_path(const char *name, const char *file)
{
    SB_CLEANUP(free) char *dir = NULL;
    return sandbox_dir(name, &dir, NULL) < 0 ? NULL : sb_xasprintf("%s/%s", dir, file);
}

/* It helps those who ask; nothing depends on it. */
static void put_reason(const char *name, const char *file, const char *why)
{
    SB_CLEANUP(free) char *path = reason_path(name, file);
    if (path && why) {
        sb_write_file_atomic(AT_FDCWD, path, why, strnlen(why, REASON_MAX), 0600, NULL);
    } else if (path) {
        unlink(path);
    }
}

static char *reason(const char *name, const char *file)
{
    SB_CLEANUP(free) char *path = reason_path(name, file);
    SB_CLEANUP(buf) struct sb_buf text;
    sb_buf_init(&text, REASON_MAX);
    bool known = path && sb_read_file(AT_FDCWD, path, &text, NULL) == 0 && text.len > 0;
    return known ? sb_printable(text.data, "") : NULL;
}

void state_put_end(const char *name, const char *why)
{
    put_reason(name, STATE_ENDED, why);
}

char *state_end(const char *name)
{
    return reason(name, STATE_ENDED);
}

void state_put_unfinished(const char *name, const char *why)
{
    put_reason(name, STATE_UNFINISHED, why);
}

char *state_unfinished(const char *name)
{
    return reason(name, STATE_UNFINISHED);
}

int state_lock(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/" STATE_LOCK, dir);
    SB_CLEANUP(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno == ENOENT ? sb_fail(err, SB_ENOTFOUND, "there is no sandbox named '%s'", name)
                               : sb_fail_errno(err, errno, "open '%s'", path);
    }
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
        if (errno != EWOULDBLOCK || i == LOCK_TRIES) {
            return errno == EWOULDBLOCK ? fail_held(name, fd, err)
                                        : sb_fail_errno(err, errno, "lock '%s'", path);
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_NAP_NS}, NULL);
    }
    return sb_steal_fd(&fd);
}
