/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/log_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/paths.h"

static const char suffix[] = ".jsonl";

enum { NAME_TEXT_MAX = 256 };

static int check_name(const char *sandbox, struct sb_err **err)
{
    if (sandbox[0] == '\0' || sandbox[0] == '.' || strchr(sandbox, '/') ||
        strlen(sandbox) > NAME_TEXT_MAX - 16) {
        return sb_fail(err, SB_EUSAGE, "'%s' is not a sandbox name", sandbox);
    }
    return 0;
}

int log_path(const char *sandbox, char **ret_path, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = check_name(sandbox, err);
    r = r < 0 ? r : sb_path_state_sub("log", &dir, err);
    if (r < 0) {
        return r;
    }
    *ret_path = sb_xasprintf("%s/%s%s", dir, sandbox, suffix);
    return 0;
}

static int open_dir(const char *sandbox, int *ret_fd, struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    int r = check_name(sandbox, err);
    r = r < 0 ? r : sb_path_state_sub("log", &path, err);
    if (r < 0) {
        return r;
    }
    *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd < 0 ? sb_fail_errno(err, errno, "open '%s'", path) : 0;
}

/* `age` 0: the current file. */
static void file_name(const char *sandbox, int age, char ret[NAME_TEXT_MAX])
{
    if (age) {
        snprintf(ret, NAME_TEXT_MAX, "%s%s.%d", sandbox, suffix, age);
    } else {
        snprintf(ret, NAME_TEXT_MAX, "%s%s", sandbox, suffix);
    }
}

static int file_rename(int dir, const char *sandbox, int from, int to)
{
    char old[NAME_TEXT_MAX], new[NAME_TEXT_MAX];
    file_name(sandbox, from, old);
    file_name(sandbox, to, new);
    return renameat(dir, old, dir, new) < 0 ? -errno : 0;
}

/* -1: there is no such file. */
static off_t file_size(int dir, const char *sandbox, int age)
{
    char name[NAME_TEXT_MAX];
    struct stat st;
    file_name(sandbox, age, name);
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -1 : st.st_size;
}

static int open_current(int dir, const char *sandbox, int flags, int *ret_fd, struct sb_err **err)
{
    char name[NAME_TEXT_MAX];
    file_name(sandbox, 0, name);
    /* Readable too: the proxy looks at the end of what is there before it goes on. */
    *ret_fd = openat(dir, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    return *ret_fd < 0 ? sb_fail_errno(err, errno, "open the request log '%s'", name) : 0;
}

int log_files_append(const char *sandbox, int *ret_fd, struct sb_err **err)
{
    SB_CLEANUP(fd) int dir = -1;
    int r = open_dir(sandbox, &dir, err);
    if (r < 0) {
        return r;
    }
    if (file_size(dir, sandbox, 0) <= 0 && file_size(dir, sandbox, 1) >= 0) {
        r = file_rename(dir, sandbox, 1, 0);
        if (r < 0) {
            return sb_fail_errno(err, -r, "take back the request log of '%s'", sandbox);
        }
    }
    return open_current(dir, sandbox, 0, ret_fd, err);
}

static void drop_excess(int dir, const char *sandbox)
{
    char name[NAME_TEXT_MAX];
    file_name(sandbox, LOG_OLD_FILES + 1, name);
    unlinkat(dir, name, 0);
}

int log_files_rotate(const char *sandbox, int *ret_fd, struct sb_err **err)
{
    SB_CLEANUP(fd) int dir = -1;
    int r = open_dir(sandbox, &dir, err);
    if (r < 0) {
        return r;
    }
    drop_excess(dir, sandbox);
    int hole = 1; /* a rotation that was undone leaves one: nothing behind it has to move */
    while (file_size(dir, sandbox, hole) >= 0) {
        hole++;
    }
    for (int age = hole - 1; r == 0 && age >= 0; age--) {
        r = file_rename(dir, sandbox, age, age + 1);
    }
    if (r < 0) {
        return sb_fail_errno(err, -r, "rename the request log of '%s'", sandbox);
    }
    drop_excess(dir, sandbox); /* first: it may be the space that the new one needs */
    r = open_current(dir, sandbox, O_EXCL, ret_fd, err);
    if (r < 0) {
        file_rename(dir, sandbox, 1, 0);
    }
    return r;
}

void log_files_close(struct log_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->at[i].name);
        if (files->at[i].fd >= 0) {
            close(files->at[i].fd);
        }
    }
    files->count = 0;
}

static bool same_file(int a, int b)
{
    struct stat left, right;
    return fstat(a, &left) == 0 && fstat(b, &right) == 0 && left.st_ino == right.st_ino &&
           left.st_dev == right.st_dev;
}

/* From the youngest on: a rotation meanwhile shows a file twice and hides none. */
int log_files_open(const char *sandbox, struct log_files *ret, struct sb_err **err)
{
    SB_CLEANUP(fd) int dir = -1;
    SB_CLEANUP(log_files) struct log_files files = {0};
    int r = open_dir(sandbox, &dir, err);
    for (int age = 0; r == 0 && age < LOG_FILES_MAX; age++) {
        char name[NAME_TEXT_MAX];
        file_name(sandbox, age, name);
        int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) {
            r = errno == ENOENT ? 0 : sb_fail_errno(err, errno, "open '%s'", name);
            continue;
        }
        if (files.count && same_file(fd, files.at[files.count - 1].fd)) {
            close(fd);
            continue;
        }
        files.at[files.count++] = (struct log_file){.fd = fd, .name = sb_xstrdup(name)};
    }
    if (r < 0) {
        return r;
    }
    ret->count = 0;
    while (files.count > 0) {
        ret->at[ret->count++] = files.at[--files.count];
    }
    return 0;
}

static int is_current(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name), tail = sizeof(suffix) - 1;
    return n > tail && entry->d_name[0] != '.' && strcmp(entry->d_name + n - tail, suffix) == 0;
}

int log_files_each(int (*fn)(void *arg, const char *sandbox, struct sb_err **err), void *arg,
                   struct sb_err **err)
{
    SB_CLEANUP(free) char *path = NULL;
    struct dirent **entries;
    int r = sb_path_state_sub("log", &path, err);
    if (r < 0) {
        return r;
    }
    int count = scandir(path, &entries, is_current, alphasort);
    if (count < 0) {
        return sb_fail_errno(err, errno, "read '%s'", path);
    }
    for (int i = 0; i < count; i++) {
        if (r == 0) {
            entries[i]->d_name[strlen(entries[i]->d_name) - (sizeof(suffix) - 1)] = '\0';
            r = fn(arg, entries[i]->d_name, err);
        }
        free(entries[i]);
    }
    free(entries);
    return r;
}

/* ---- the head ---- */

static int head_open(const char *sandbox, int flags, int *ret_fd, struct sb_err **err)
{
    SB_CLEANUP(free) char *dir = NULL;
    int r = check_name(sandbox, err);
    r = r < 0 ? r : sb_path_state_sub("log-heads", &dir, err);
    if (r < 0) {
        return r;
    }
    SB_CLEANUP(free) char *path = sb_xasprintf("%s/%s", dir, sandbox);
    *ret_fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *ret_fd < 0 ? sb_fail_errno(err, errno, "open '%s'", path) : 0;
}

int log_head_open(const char *sandbox, int *ret_fd, struct sb_err **err)
{
    return head_open(sandbox, O_RDWR | O_CREAT, ret_fd, err);
}

/* "NUMBER VALUE\n": always the same length, in place, so a reader sees the old or the new one. */
enum { HEAD_DIGITS = 20, HEAD_BYTES = HEAD_DIGITS + 1 + LOG_HASH_MAX };

int log_head_write(int fd, const struct log_chain *head)
{
    char text[HEAD_BYTES + 1];
    snprintf(text, sizeof(text), "%0*llu %s\n", HEAD_DIGITS, (unsigned long long)head->seq,
             head->value);
    ssize_t done = pwrite(fd, text, HEAD_BYTES, 0);
    return done == HEAD_BYTES ? 0 : done < 0 ? -errno : -ENOSPC;
}

void log_head_read(int fd, struct log_chain *ret)
{
    char text[HEAD_BYTES], *end;
    log_chain_init(ret);
    if (pread(fd, text, sizeof(text), 0) != HEAD_BYTES || text[HEAD_BYTES - 1] != '\n') {
        return;
    }
    unsigned long long seq = strtoull(text, &end, 10);
    if (end == text + HEAD_DIGITS && *end == ' ') {
        ret->seq = seq;
        memcpy(ret->value, end + 1, LOG_HASH_MAX - 1);
    }
}

int log_head_load(const char *sandbox, struct log_chain *ret, struct sb_err **err)
{
    SB_CLEANUP(fd) int fd = -1;
    log_chain_init(ret);
    int r = head_open(sandbox, O_RDONLY, &fd, NULL);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return head_open(sandbox, O_RDONLY, &fd, err);
    }
    log_head_read(fd, ret);
    return 0;
}
