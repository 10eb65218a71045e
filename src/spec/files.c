/* SPDX-License-Identifier: Apache-2.0
 * The files that a kit brings: files/home and files/workspace, walked in sorted order.
 *
 * A link is followed when what it finally points at lies in the kit's directory; a link out of it
 * is refused, so that a kit cannot copy the user's own files into a sandbox.  The path that is kept
 * has no link in it; whoever opens it later refuses links (sb_read_plain_file), since a kit in the
 * workspace can be changed by the sandbox. */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/paths.h"
#include "base/text.h"
#include "spec/kit_internal.h"

enum { FILES_MAX = 10000, FILES_DEPTH = 32 };

struct walk {
    struct kit *kit;
    const char *root; /* the kit's directory, resolved */
    const char *target;
    struct sb_err **err;
};

static int walk_dir(struct walk *w, const char *dir, const char *relative, size_t depth);

static int add_file(struct walk *w, const char *real, const char *relative, const struct stat *st)
{
    if (json_array_size(w->kit->files) >= FILES_MAX) {
        sb_fail(w->err, SB_ELIMIT, "kit '%s' has more than %d files", kit_name(w->kit), FILES_MAX);
        sb_hint(w->err, "bring them as one archive, which an install command unpacks");
        return SB_ELIMIT;
    }
    json_t *entry =
        json_pack("{s:s, s:s, s:s, s:I, s:I}", "target", w->target, "path", relative, "host_path",
                  real, "mode", (json_int_t)(st->st_mode & 0777), "size", (json_int_t)st->st_size);
    if (!entry) {
        SB_CLEANUP(free) char *shown = sb_printable(real, "");
        sb_fail(w->err, SB_ESPEC, "file %s: its name is not valid UTF-8", shown);
        sb_hint(w->err, "give the file another name");
        return SB_ESPEC;
    }
    json_array_append_new(w->kit->files, entry);
    return 0;
}

static int walk_entry(struct walk *w, const char *path, const char *relative, size_t depth)
{
    struct stat st;
    SB_CLEANUP(free) char *real = realpath(path, NULL);
    if (!real) {
        int r = sb_fail_errno(w->err, errno, "kit file %s", path);
        sb_hint(w->err, "it is a link to nothing, or cannot be read: leave it out of files/");
        return r;
    }
    if (!sb_path_within(real, w->root)) {
        sb_fail(w->err, SB_ESPEC,
                "file %s is a symlink that escapes the kit directory (resolves to %s)", path, real);
        sb_hint(w->err, "copy the file into the kit instead");
        return SB_ESPEC;
    }
    if (stat(real, &st) < 0) {
        return sb_fail_errno(w->err, errno, "kit file %s", path);
    }
    if (S_ISDIR(st.st_mode)) {
        return walk_dir(w, path, relative, depth + 1);
    }
    if (!S_ISREG(st.st_mode)) {
        sb_fail(w->err, SB_ESPEC, "file %s is neither a regular file nor a directory", path);
        sb_hint(w->err, "leave it out of files/; an install command can make one inside");
        return SB_ESPEC;
    }
    return add_file(w, real, relative, &st);
}

static int walk_dir(struct walk *w, const char *dir, const char *relative, size_t depth)
{
    struct dirent **entries;
    if (depth > FILES_DEPTH) {
        sb_fail(w->err, SB_ELIMIT, "directory %s is nested too deeply (limit %d)", dir,
                FILES_DEPTH);
        sb_hint(w->err, "look for a symlink that points at its own parent");
        return SB_ELIMIT;
    }
    int n = scandir(dir, &entries, NULL, alphasort), r = 0;
    if (n < 0) {
        return sb_fail_errno(w->err, errno, "kit directory %s", dir);
    }
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (r == 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", dir, name);
            SB_CLEANUP(free)
            char *below = sb_xasprintf("%s%s%s", relative, relative[0] ? "/" : "", name);
            r = walk_entry(w, path, below, depth);
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}

/* What lies beside the two trees goes nowhere, which its author should know. */
static void warn_others(struct kit *kit, const char *dir)
{
    struct dirent **entries;
    SB_CLEANUP(free) char *top = sb_xasprintf("%s/files", dir);
    int n = scandir(top, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "home") != 0 &&
            strcmp(name, "workspace") != 0) {
            kit_warn_file(kit, name);
        }
        free(entries[i]);
    }
    if (n >= 0) {
        free(entries);
    }
}

int kit_enumerate_files(struct kit *kit, const char *dir, struct sb_err **err)
{
    static const char *const targets[] = {"home", "workspace"};
    warn_others(kit, dir);
    for (size_t i = 0; i < SB_ARRAY_LEN(targets); i++) {
        struct walk w = {kit, dir, targets[i], err};
        struct stat st;
        SB_CLEANUP(free) char *top = sb_xasprintf("%s/files/%s", dir, targets[i]);
        if (lstat(top, &st) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
            continue;
        }
        int r = walk_entry(&w, top, "", 0);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}
