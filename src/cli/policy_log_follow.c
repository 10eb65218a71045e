/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy log --follow`: records as they are written, across rotations and new sandboxes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/paths.h"
#include "cli/policy_log.h"
#include "policy/log.h"
#include "policy/log_files.h"
#include "sandbox/client.h"

enum { FOLLOWED_MAX = 1024 };

struct followed {
    char *sandbox;
    struct log_lines lines; /* of the file that is read now */
    ino_t file;             /* 0: none yet */
};

struct follow {
    const struct log_options *options;
    struct followed *logs;
    size_t count;
    bool from_end; /* logs that are found now were there before the command */
};

static void follow_done(struct follow *follow)
{
    for (size_t i = 0; i < follow->count; i++) {
        free(follow->logs[i].sandbox);
        log_lines_done(&follow->logs[i].lines);
    }
    free(follow->logs);
}
static void sb_cleanup_follow(struct follow *follow)
{
    follow_done(follow);
}

static void on_line(void *arg, const char *line, size_t len)
{
    const struct follow *follow = arg;
    SB_CLEANUP(log_fields) struct log_fields record;
    if (log_fields_read(line, len, &record) && log_options_want(follow->options, &record)) {
        log_show_record(follow->options, &record, line, len);
    }
}

static struct stat file_stat(int fd)
{
    struct stat st = {0};
    fstat(fd, &st);
    return st;
}

static void turn_to(struct followed *log, struct log_files *files, size_t i)
{
    log_lines_done(&log->lines);
    log->file = file_stat(files->at[i].fd).st_ino;
    log_lines_init(&log->lines, sb_steal_fd(&files->at[i].fd));
}

/* Reads the rest of this file and all of the files that came after it.  A new file without a line
 * does not count yet: until its first line the old one may grow. */
static int catch_up(struct follow *follow, struct followed *log, struct sb_err **err)
{
    SB_CLEANUP(log_files) struct log_files files = {0};
    int r = log_files_open(log->sandbox, &files, err);
    size_t count = files.count;
    if (count > 1 && file_stat(files.at[count - 1].fd).st_size == 0) {
        count--;
    }
    size_t next = 0;
    for (size_t i = 0; log->file && i < count; i++) {
        if (file_stat(files.at[i].fd).st_ino == log->file) {
            next = i + 1;
        }
    }
    r = r < 0 || !log->file ? r : log_lines_read(&log->lines, on_line, follow, err);
    for (; r == 0 && next < count; next++) {
        turn_to(log, &files, next);
        r = log_lines_read(&log->lines, on_line, follow, err);
    }
    return r;
}

/* Where a log that was there before begins for us: at its end, or at its first file. */
static int begin(struct follow *follow, struct followed *log, struct sb_err **err)
{
    SB_CLEANUP(log_files) struct log_files files = {0};
    int r = log_files_open(log->sandbox, &files, err);
    if (r == 0 && files.count && follow->from_end && !follow->options->since_ms) {
        turn_to(log, &files, files.count - 1);
        lseek(log->lines.fd, 0, SEEK_END);
    }
    return r;
}

static int add(void *arg, const char *sandbox, struct sb_err **err)
{
    struct follow *follow = arg;
    for (size_t i = 0; i < follow->count; i++) {
        if (strcmp(follow->logs[i].sandbox, sandbox) == 0) {
            return 0;
        }
    }
    if (follow->count == FOLLOWED_MAX) {
        return 0;
    }
    follow->logs = sb_xrealloc(follow->logs, follow->count + 1, sizeof(*follow->logs));
    struct followed *log = &follow->logs[follow->count++];
    *log = (struct followed){.sandbox = sb_xstrdup(sandbox), .lines.fd = -1};
    return begin(follow, log, err);
}

static int look(struct follow *follow, struct sb_err **err)
{
    const char *only = follow->options->sandbox;
    int r = only ? add(follow, only, err) : log_files_each(add, follow, err);
    for (size_t i = 0; r == 0 && i < follow->count; i++) {
        r = catch_up(follow, &follow->logs[i], err);
    }
    if (r == 0 && fflush(stdout) != 0) {
        r = sb_fail_errno(err, errno, "write to standard output");
    }
    return r;
}

/* Whoever waits for a name that is mistyped waits for ever; one that was just made has no log yet.
 */
static int check_name(const char *sandbox, struct sb_err **err)
{
    SB_CLEANUP(log_files) struct log_files files = {0};
    SB_CLEANUP(json) json_t *config = NULL;
    int r = log_files_open(sandbox, &files, err);
    bool known = files.count || (sandbox_name_valid(sandbox) &&
                                 sandbox_load(sandbox, &config, NULL) != SB_ENOTFOUND);
    return r < 0 || known ? r : log_fail_missing(sandbox, err);
}

int log_follow(const struct log_options *options, struct sb_err **err)
{
    SB_CLEANUP(follow) struct follow follow = {.options = options, .from_end = true};
    SB_CLEANUP(free) char *dir = NULL;
    SB_CLEANUP(fd) int notify = inotify_init1(IN_CLOEXEC);
    int r = options->sandbox ? check_name(options->sandbox, err) : 0;
    r = r < 0 ? r : sb_path_state_sub("log", &dir, err);
    if (r < 0) {
        return r;
    }
    if (notify < 0 || inotify_add_watch(notify, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
        return sb_fail_errno(err, errno, "watch '%s'", dir);
    }
    for (;;) {
        r = look(&follow, err);
        if (r < 0) {
            return r;
        }
        follow.from_end = false;
        _Alignas(struct inotify_event) char events[4096];
        ssize_t n = read(notify, events, sizeof(events)); /* only that something happened counts */
        if (n < 0 && errno != EINTR) {
            return sb_fail_errno(err, errno, "watch '%s'", dir);
        }
    }
}
