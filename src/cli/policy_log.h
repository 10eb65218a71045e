/* SPDX-License-Identifier: Apache-2.0
 * What the parts of `sbx policy log` share: which records are wanted, and one record as a line. */
#pragma once

#include <stdint.h>

#include "cli/cli.h"
#include "policy/log.h"
#include "policy/summary.h"

struct log_options {
    const char *sandbox; /* NULL: all */
    const char *host;    /* a pattern as in rules; NULL: every host */
    bool json, denied, quiet;
    size_t limit;             /* 0: none */
    uint64_t since_ms;        /* 0: from the beginning */
    char since[LOG_TIME_MAX]; /* the same as the log writes times */
};

int log_options_parse(const struct cli_args *args, struct log_options *ret, struct sb_err **err);
bool log_options_want(const struct log_options *options, const struct log_fields *record);

/* RFC 3339 UTC -> "10:15:25 29-Jan" in local time; what is no time is shown as "-". */
void log_show_time(const char *text, char ret[32]);
/* "host:port"; a name that was only looked up has no port. The caller frees. */
char *log_show_place(const struct log_row *row);
/* One record as it is asked for: as JSON (the stored line), HOST:PORT, or a line for people. */
void log_show_record(const struct log_options *options, const struct log_fields *record,
                     const char *line, size_t len);

/* SB_ENOTFOUND: the error where a sandbox that is named has no log. */
int log_fail_missing(const char *sandbox, struct sb_err **err);

/* `--follow`: prints what comes, until a signal ends the program or stdout is gone. */
int log_follow(const struct log_options *options, struct sb_err **err);
/* `--verify`. */
int log_verify_command(const struct log_options *options, int *ret_status, struct sb_err **err);
