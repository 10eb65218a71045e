/* SPDX-License-Identifier: Apache-2.0 */
#include "base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fs.h"

const char *sb_home(void)
{
    const char *home = secure_getenv("HOME");
    if (home && home[0] == '/') {
        return home;
    }
    const struct passwd *pw = getpwuid(getuid());
    return pw ? pw->pw_dir : "/";
}

bool sb_path_within(const char *path, const char *top)
{
    size_t len = strlen(top);
    if (len && top[len - 1] == '/') {
        len--;
    }
    return strncmp(path, top, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static int make_dir(char *path, char **ret_path, struct sb_err **err)
{
    int r = sb_mkdir_p(AT_FDCWD, path, 0700);
    if (r < 0) {
        sb_fail_errno(err, -r, "create directory '%s'", path);
        sb_hint(err, "sbx keeps its files there; the variable SBX_HOME names another place");
        free(path);
        return r;
    }
    *ret_path = path;
    return 0;
}

/* One of the three places. */
struct place {
    const char *variable, *below_home, *under_sbx_home;
    char *made; /* its path, once it was there: it is asked for by every file */
};

/* A relative XDG variable is passed over, as its specification wants; of ours that would mean other
 * sandboxes than were meant. */
static int name_place(const struct place *place, char **ret_path, struct sb_err **err)
{
    const char *own = secure_getenv("SBX_HOME"), *base = secure_getenv(place->variable);
    if (own && *own && own[0] != '/') {
        int r = sb_fail(err, SB_EFAIL, "SBX_HOME '%s' is not an absolute path", own);
        sb_hint(err, "let it begin with '/', or unset it");
        return r;
    }
    if (own && *own) {
        *ret_path = sb_xasprintf("%s/%s", own, place->under_sbx_home);
    } else if (base && base[0] == '/') {
        *ret_path = sb_xasprintf("%s/sbx", base);
    } else {
        *ret_path = sb_xasprintf("%s/%s", sb_home(), place->below_home);
    }
    return 0;
}

static int make_place(struct place *place, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = name_place(place, &path, err);
    if (r == 0 && (!place->made || strcmp(place->made, path) != 0)) {
        free(place->made);
        place->made = NULL;
        r = make_dir(sb_xstrdup(path), &place->made, err);
    }
    if (r == 0) {
        *ret_path = sb_steal(&path);
    }
    return r;
}

int sb_path_config(char **ret_path, struct sb_err **err)
{
    static struct place config = {"XDG_CONFIG_HOME", ".config/sbx", "config", NULL};
    return make_place(&config, ret_path, err);
}

int sb_path_state(char **ret_path, struct sb_err **err)
{
    static struct place state = {"XDG_STATE_HOME", ".local/state/sbx", "state", NULL};
    return make_place(&state, ret_path, err);
}

int sb_path_runtime(char **ret_path, struct sb_err **err)
{
    static struct place runtime = {"XDG_RUNTIME_DIR", ".local/state/sbx/run", "run", NULL};
    return make_place(&runtime, ret_path, err);
}

int sb_path_state_sub(const char *sub, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *state = NULL;
    int r = sb_path_state(&state, err);
    if (r < 0) {
        return r;
    }
    return make_dir(sb_xasprintf("%s/%s", state, sub), ret_path, err);
}

int sb_path_private_folder(const char *name, struct sb_err **err)
{
    SB_CLEANUP(free) char *config = NULL;
    int r = sb_path_config(&config, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", config, name);
    r = sb_mkdir_p(AT_FDCWD, path, 0700);
    if (r < 0) {
        return sb_fail_errno(err, -r, "create directory '%s'", path);
    }
    SB_CLEANUP(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return sb_fail_errno(err, errno, "open directory '%s'", path);
    }
    if ((st.st_mode & 077) && fchmod(fd, 0700) < 0) {
        return sb_fail_errno(err, errno, "directory '%s' is open to other users, and chmod", path);
    }
    return sb_steal_fd(&fd);
}

int sb_path_own(char **ret_path, struct sb_err **err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0) {
        return sb_fail_errno(err, errno, "readlink /proc/self/exe");
    }
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    *ret_path = sb_xstrdup(self);
    return 0;
}

int sb_path_helper(const char *program, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *own = NULL;
    int r = sb_path_own(&own, err);
    if (r < 0) {
        return r;
    }
    /* Ours: PREFIX/bin, PREFIX/libexec/sbx (a helper asking for another), or a build directory. */
    static const char *const places[] = {"", "/../libexec/sbx"};
    for (size_t i = 0; i < SB_ARRAY_LEN(places); i++) {
        char *path = sb_xasprintf("%s%s/%s", own, places[i], program);
        if (access(path, X_OK) == 0) {
            *ret_path = path;
            return 0;
        }
        free(path);
    }
    sb_fail(err, SB_EFAIL, "the helper program '%s' is not installed beside '%s/sbx'", program,
            own);
    sb_hint(err, "install sbx with 'make install', or run it from its build directory");
    return SB_EFAIL;
}
