/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/workspace_words.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/msg.h"
#include "base/paths.h"
#include "sandbox/rootfs.h"

static bool is_one_of(const char *path, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(path, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* What sbx keeps is how a sandbox is held: who can write it holds himself. */
static int check_own_files(const char *path, struct sb_err **err)
{
    static int (*const places[])(char **, struct sb_err **) = {sb_path_config, sb_path_state,
                                                               sb_path_runtime};
    for (size_t i = 0; i < SB_ARRAY_LEN(places); i++) {
        SB_CLEANUP(free) char *own = NULL;
        char real[PATH_MAX];
        int r = places[i](&own, err);
        if (r < 0) {
            return r;
        }
        if (!realpath(own, real)) {
            return sb_fail_errno(err, errno, "'%s'", own);
        }
        /* Also by its name: a link in the workspace on the way there would be the sandbox's. */
        if (sb_path_within(path, real) || sb_path_within(real, path) || sb_path_within(own, path)) {
            sb_fail(err, SB_EUSAGE,
                    "'%s' cannot be a workspace: the sandbox could change what sbx itself keeps "
                    "in '%s'",
                    path, own);
            sb_hint(err, "give a directory beside that, or have sbx keep its files elsewhere: "
                         "SBX_HOME, or the XDG_*_HOME directories");
            return SB_EUSAGE;
        }
    }
    return 0;
}

/* What shows far more than a project: alone, or also whatever lies in it. */
static bool is_revealing(const char *path)
{
    static const struct {
        const char *path;
        bool of_home, whole;
    } places[] = {{"/home", false, false},   {"/root", false, false},    {"/run", false, false},
                  {"/var", false, false},    {"/var/lib", false, false}, {"/var/tmp", false, false},
                  {"/tmp", false, false},    {"/opt", false, false},     {"/srv", false, false},
                  {"/mnt", false, false},    {"/media", false, false},   {"/usr", false, false},
                  {"/usr/bin", false, true}, {"/usr/sbin", false, true}, {"/usr/lib", false, true},
                  {"/etc", false, true},     {"/boot", false, true},     {"/.config", true, false},
                  {"/.local", true, false},  {"/.ssh", true, true},      {"/.gnupg", true, true},
                  {"/.aws", true, true}};
    char home[PATH_MAX];
    bool has_home = realpath(sb_home(), home) != NULL;
    bool found = (has_home && sb_path_within(home, path)) ||
                 (strncmp(path, "/home/", 6) == 0 && !strchr(path + 6, '/'));
    for (size_t i = 0; i < SB_ARRAY_LEN(places); i++) {
        if (!places[i].of_home || has_home) {
            SB_CLEANUP(free)
            char *place = sb_xasprintf("%s%s", places[i].of_home ? home : "", places[i].path);
            found |= places[i].whole ? sb_path_within(path, place) : strcmp(path, place) == 0;
        }
    }
    return found;
}

static int check_workspace(const struct cli_args *args, const char *path, struct sb_err **err)
{
    static const char *const its_own[] = {"/", "/proc", "/sys", "/dev"};
    bool of_kernel = sb_path_within(path, "/proc") || sb_path_within(path, "/sys");
    if (of_kernel || is_one_of(path, its_own, SB_ARRAY_LEN(its_own))) {
        sb_fail(err, SB_EUSAGE, "'%s' cannot be a workspace: a sandbox has its own there", path);
        sb_hint(err, "give the directories that it shall see");
        return SB_EUSAGE;
    }
    int r = check_own_files(path, err);
    if (r < 0 || cli_bool(args, "i-know") || !is_revealing(path)) {
        return r;
    }
    sb_fail(err, SB_EUSAGE, "'%s' as a workspace would show the sandbox all that lies below it",
            path);
    sb_hint(err, "give a project directory, or add --i-know if that is what you want");
    return SB_EUSAGE;
}

/* An outer one stands before its inner ones, so that each is mounted on top of what holds it. */
static int insert_mount(json_t *mounts, const char *path, json_t *entry, struct sb_err **err)
{
    size_t place = 0;
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const char *other = sb_json_str(json_array_get(mounts, i), "path");
        if (strcmp(other, path) == 0) {
            json_decref(entry);
            return sb_fail(err, SB_EUSAGE, "workspace '%s' is given twice", path);
        }
        place += strlen(other) <= strlen(path);
    }
    json_array_insert_new(mounts, place, entry);
    return 0;
}

struct workspaces {
    json_t *mounts;
    char *first;
};

/* PATH or PATH:ro, made absolute with every link resolved. */
static int add_mount(const struct cli_args *args, const char *word, struct workspaces *list,
                     struct sb_err **err)
{
    SB_CLEANUP(free) char *path = sb_xstrdup(word);
    size_t len = strlen(path);
    bool read_only = len > 3 && strcmp(path + len - 3, ":ro") == 0;
    if (read_only) {
        path[len - 3] = '\0';
    }
    char real[PATH_MAX];
    struct stat st;
    if (!realpath(path, real) || stat(real, &st) < 0) {
        sb_fail(err, SB_EUSAGE, "workspace '%s': %s", path, strerror(errno));
        sb_hint(err, "give a directory that exists: sbx run %s PATH (PATH:ro cannot be changed)",
                args->words[0]);
        return SB_EUSAGE;
    }
    if (!S_ISDIR(st.st_mode)) {
        return sb_fail(err, SB_EUSAGE, "workspace '%s' is not a directory", path);
    }
    if (json_array_size(list->mounts) >= ROOTFS_WORKSPACES_MAX) {
        return sb_fail(err, SB_EUSAGE, "at most %d paths can be given", ROOTFS_WORKSPACES_MAX);
    }
    json_t *entry = json_pack("{s:s,s:b,s:I,s:I,s:I,s:I}", "path", real, "read_only", read_only,
                              "device", (json_int_t)st.st_dev, "inode", (json_int_t)st.st_ino,
                              "uid", (json_int_t)st.st_uid, "gid", (json_int_t)st.st_gid);
    if (!entry) {
        return sb_fail(err, SB_EUSAGE, "workspace '%s': its path is not UTF-8 text", path);
    }
    int r = insert_mount(list->mounts, real, entry, err);
    list->first = list->first ? list->first : sb_xstrdup(real);
    return r < 0 ? r : check_workspace(args, real, err);
}

int cli_workspace_words(const struct cli_args *args, json_t **ret_mounts, char **ret_first,
                        struct sb_err **err)
{
    struct workspaces list = {.mounts = json_array()};
    int r = args->nwords < 2 ? add_mount(args, ".", &list, err) : 0;
    for (size_t i = 1; r == 0 && i < args->nwords; i++) {
        r = add_mount(args, args->words[i], &list, err);
    }
    if (r < 0) {
        json_decref(list.mounts);
        free(list.first);
        return r;
    }
    *ret_mounts = list.mounts;
    *ret_first = list.first;
    return 0;
}
