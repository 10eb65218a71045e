/* SPDX-License-Identifier: Apache-2.0
 * The files of a request log.
 *
 *   $STATE/log/NAME.jsonl        what is being written
 *   $STATE/log/NAME.jsonl.1 …    older ones, .1 the youngest; each begins where the next one ends
 *   $STATE/log-heads/NAME        place of the last line: a log that was cut at its end has less
 *
 * Only the supervisor of a running sandbox changes names, and it hands descriptors to the proxy,
 * which writes.  Readers may come at any time. */
#pragma once

#include "base/err.h"
#include "policy/chain.h"

enum {
    /* About 36,000 requests; small enough to look through, and to give up as the unit of what is
     * dropped. */
    LOG_FILE_BYTES = 16 * 1024 * 1024,
    /* With the current file 128 MiB a sandbox, some 290,000 requests: weeks of an agent's work, and
     * what a hostile one can fill of the disk. */
    LOG_OLD_FILES = 7,
    LOG_FILES_MAX = LOG_OLD_FILES + 2, /* one more exists while files are being renamed */
};

/* $STATE/log/NAME.jsonl; makes the directory.  The caller frees. */
int log_path(const char *sandbox, char **ret_path, struct sb_err **err);

/* The current file to read and append, made when missing; a rotation that was cut short is undone
 * first, so that the last line of the log is in it unless there is none. */
int log_files_append(const char *sandbox, int *ret_fd, struct sb_err **err);
/* Makes the current file an old one, drops the oldest when there are too many, and opens a new,
 * empty current one. */
int log_files_rotate(const char *sandbox, int *ret_fd, struct sb_err **err);

/* All files as they are, oldest first. */
struct log_files {
    size_t count;
    struct log_file {
        int fd;
        char *name; /* without the directory */
    } at[LOG_FILES_MAX];
};
/* A sandbox without a log has no files: no error. */
int log_files_open(const char *sandbox, struct log_files *ret, struct sb_err **err);
void log_files_close(struct log_files *files);
static inline void sb_cleanup_log_files(struct log_files *files)
{
    log_files_close(files);
}
/* Calls `fn` for each sandbox that has a log, by name, until it fails. */
int log_files_each(int (*fn)(void *arg, const char *sandbox, struct sb_err **err), void *arg,
                   struct sb_err **err);

/* The head file, made when missing; to be written with log_head_write(). */
int log_head_open(const char *sandbox, int *ret_fd, struct sb_err **err);
/* 0 or -errno. */
int log_head_write(int fd, const struct log_chain *head);
/* The place of no line when the file is empty or holds something else. */
void log_head_read(int fd, struct log_chain *ret);
/* Same, by name; seq 0 when there is no file. */
int log_head_load(const char *sandbox, struct log_chain *ret, struct sb_err **err);
