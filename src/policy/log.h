/* SPDX-License-Identifier: Apache-2.0
 * One line of the request log, written and read.  docs/audit-log.md has the schema.
 *
 * There are two kinds of lines: requests, which have a "decision", and events of the log itself,
 * which have an "event".  `host`, `method` and `target` come from the sandbox: the writer escapes
 * and bounds them, the reader trusts no line.  A secret, a query or a header value must never be
 * put into a record. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/chain.h"

enum {
    LOG_LINE_MAX = 16 * 1024, /* no line that is written here is longer */
    LOG_REASON_MAX = 96       /* a reason with its detail and end; what is longer is cut */
};

struct log_record {
    uint64_t time_ms; /* since the epoch */
    const char *sandbox;
    bool allow;
    const char *rule, *rule_id, *origin; /* NULL: no rule decided */
    const char *reason, *path, *scheme;
    const char *host; /* NULL: it could not be read */
    uint16_t port;
    const char *method, *target; /* NULL when there are none; a query in `target` is left out */
    int status;                  /* 0: no answer */
    uint64_t bytes_out, bytes_in, ms;
    const char *service, *credential; /* NULL: none */
};

/* What happened to the log itself. */
struct log_event {
    uint64_t time_ms;
    const char *sandbox;
    enum { LOG_OPEN, LOG_CLOSE, LOG_GAP } kind;
    /* OPEN: a writer begins, at "start" or, as the first line of a file, after a "rotation". */
    const char *reason;
    struct log_chain head;          /* OPEN: what was kept outside the log about its last line */
    uint64_t torn;                  /* OPEN: bytes of the unfinished line before this one */
    char torn_sha256[LOG_HASH_MAX]; /* their hash */
    uint64_t lost, refused;         /* GAP: records without a line, requests refused meanwhile */
};

/* Each appends one sealed line with its newline and moves the chain on.  Bytes outside printable
 * ASCII become \u00XX, so that no line of the log can be forged or can reach a terminal raw. */
void log_format(struct sb_buf *out, struct log_chain *chain, const struct log_record *record);
void log_format_event(struct sb_buf *out, struct log_chain *chain, const struct log_event *event);

/* Hands out the lines of a file that may still grow, in constant memory. */
struct log_lines {
    int fd; /* owned */
    char *data;
    size_t len;
    bool skipping; /* inside a line that is too long */
};
void log_lines_init(struct log_lines *lines, int fd);
void log_lines_done(struct log_lines *lines);
static inline void sb_cleanup_log_lines(struct log_lines *lines)
{
    log_lines_done(lines);
}
/* `line` is without its newline and not terminated; NULL stands for one that was too long. */
typedef void log_line_fn(void *arg, const char *line, size_t len);
/* Hands every whole line from here to the end to `fn`; what follows the last newline waits for the
 * next call (lines->data, lines->len). */
int log_lines_read(struct log_lines *lines, log_line_fn *fn, void *arg, struct sb_err **err);

/* A line as JSON; NULL when it is none.  The caller releases it. */
json_t *log_parse(const char *line, size_t len);
/* Milliseconds since the epoch as the log writes them: "2026-01-29T10:15:25.123Z". */
enum { LOG_TIME_MAX = 25 };
void log_format_time(uint64_t time_ms, char ret[LOG_TIME_MAX]);
