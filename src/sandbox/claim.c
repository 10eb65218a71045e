/* SPDX-License-Identifier: Apache-2.0
 * Who may make a sandbox: its name and its range of ids are taken under locks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/paths.h"
#include "sandbox/client.h"
#include "sandbox/state.h"
#include "sandbox/trash.h"

static int take_slot(const char *name, void *arg, struct sb_err **err)
{
    (void)err;
    SB_CLEANUP(json) json_t *config = NULL;
    if (state_load(name, &config, NULL) == 0) {
        json_int_t slot = sb_json_int(config, "slot", -1);
        if (slot >= 0) {
            SB_CLEANUP(free) char *key = sb_xasprintf("%lld", (long long)slot);
            json_object_set_new(arg, key, json_true());
        }
    }
    return 0;
}

static int free_slot(unsigned *ret_slot, struct sb_err **err)
{
    enum { SLOTS = 16384 };
    SB_CLEANUP(json) json_t *taken = json_object();
    int r = sandbox_each(take_slot, taken, err);
    for (unsigned slot = 0; r == 0 && slot < SLOTS; slot++) {
        char key[16];
        snprintf(key, sizeof(key), "%u", slot);
        if (!json_object_get(taken, key)) {
            *ret_slot = slot;
            return 0;
        }
    }
    return r < 0 ? r : sb_fail(err, SB_ELIMIT, "there are too many sandboxes: remove some");
}

static int lock_file(const char *path)
{
    SB_CLEANUP(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 || flock(fd, LOCK_EX) < 0 ? -errno : sb_steal_fd(&fd);
}

/* Whether `fd` still is what the path names: `sbx reset` removes the file that it has locked. */
static bool is_named(int fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
           held.st_dev == named.st_dev;
}

int sandbox_lock_creations(struct sb_err **err)
{
    for (;;) {
        SB_CLEANUP(free) char *state = NULL;
        int r = sb_path_state(&state, err);
        if (r < 0) {
            return r;
        }
        SB_CLEANUP(free) char *path = sb_xasprintf("%s/slots.lock", state);
        SB_CLEANUP(fd) int lock = lock_file(path);
        if (lock < 0 && lock != -ENOENT) {
            return sb_fail_errno(err, -lock, "lock '%s'", path);
        }
        if (lock >= 0 && is_named(lock, path)) {
            return sb_steal_fd(&lock);
        }
    }
}

static int fail_taken(const char *name, struct sb_err **err)
{
    sb_fail(err, SB_EEXIST, "there is already a sandbox named '%s'", name);
    sb_hint(err, "'sbx run %s' goes back to it, 'sbx rm %s' removes it, --name gives another name",
            name, name);
    return SB_EEXIST;
}

int sandbox_check_free(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = sandbox_dir(name, &dir, err);
    return r == 0 && access(dir, F_OK) == 0 ? fail_taken(name, err) : r;
}

/* Fills the directory `made` and moves it to its name. */
static int fill_and_move(const char *name, const char *made, const json_t *config, int *ret_claim,
                         struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    SB_CLEANUP(free) char *lock_path = sb_xasprintf("%s/claim", made);
    int r = sandbox_dir(name, &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(fd) int lock = lock_file(lock_path);
    if (lock < 0) {
        return sb_fail_errno(err, -lock, "lock '%s'", lock_path);
    }
    state_sign_lock(lock);
    r = state_write(made, config, err);
    if (r == 0 && rename(made, dir) < 0) {
        r = errno == EEXIST || errno == ENOTEMPTY ? fail_taken(name, err)
                                                  : sb_fail_errno(err, errno, "create '%s'", dir);
    }
    if (r == 0) {
        *ret_claim = sb_steal_fd(&lock);
    }
    return r;
}

/* Under a name that no sandbox has, so that nobody ever meets a half of it.  What stands there was
 * left by one who was killed: only the holder of the lock gets here. */
static int make_directory(const char *name, const char *base, const json_t *config, int *ret_claim,
                          struct sb_err **err)
{
    SB_CLEANUP(free) char *made = sb_xasprintf("%s/.new", base);
    int r = sb_remove_tree(AT_FDCWD, made);
    if (r < 0 || mkdir(made, 0700) < 0) {
        return sb_fail_errno(err, r < 0 ? -r : errno, "create '%s'", made);
    }
    r = fill_and_move(name, made, config, ret_claim, err);
    if (r < 0) {
        sb_remove_tree(AT_FDCWD, made);
    }
    return r;
}

int sandbox_claim(const char *name, json_t *config, int *ret_claim, struct sb_err **err)
{
    SB_CLEANUP(free) char *base = NULL;
    /* Two creations at once must not choose the same ids. */
    SB_CLEANUP(fd) int lock = sandbox_lock_creations(err);
    unsigned slot = 0;
    int r = lock < 0 ? lock : sandboxes_dir(&base, err);
    r = r < 0 ? r : free_slot(&slot, err);
    if (r < 0) {
        return r;
    }
    json_object_set_new(config, "slot", json_integer(slot));
    SB_CLEANUP(err) struct sb_err *why = NULL;
    r = make_directory(name, base, config, ret_claim, &why);
    if (r == -ENOSPC) {
        /* A sandbox that was removed just now may still be on its way out. */
        trash_sweep(base, true, NULL);
        r = make_directory(name, base, config, ret_claim, err);
    } else if (r < 0 && err) {
        *err = sb_steal(&why);
    }
    if (r < 0) {
        return r;
    }
    /* Others need not wait for what may take long; where it fails, `rm` tells. */
    close(sb_steal_fd(&lock));
    trash_sweep(base, false, NULL);
    return 0;
}

/* Tries, or waits, to share the lock that its creator holds alone. */
static bool claim_is_free(const char *name, int wait)
{
    SB_CLEANUP(free) char *dir = NULL;
    if (sandbox_dir(name, &dir, NULL) < 0) {
        return true;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/claim", dir);
    SB_CLEANUP(fd) int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 || flock(fd, LOCK_SH | wait) == 0 || errno != EWOULDBLOCK;
}

bool sandbox_is_claimed(const char *name)
{
    return !claim_is_free(name, LOCK_NB);
}

void sandbox_await_claim(const char *name)
{
    claim_is_free(name, 0);
}

long sandbox_claim_holder(const char *name)
{
    SB_CLEANUP(free) char *dir = NULL;
    if (sandbox_dir(name, &dir, NULL) < 0) {
        return 0;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/claim", dir);
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return state_lock_holder(fd);
}
