/* SPDX-License-Identifier: Apache-2.0
 * The request log: one JSON object a line in $STATE/log/NAME.jsonl, appended by the proxy.
 *
 *   {"v":1, "t":"2026-01-29T10:15:25.123Z", "sandbox":"…", "seq":n,
 *    "decision":"allow|deny", "rule":"allow example.com"|null, "rule_id":"a1b2c3d4"|null,
 *    "origin":"global"|null, "reason":"rule|default-deny|address|…",
 *    "path":"forward|forward-bypass|transparent|network|dns", "scheme":"https",
 *    "host":"…", "port":443, "method":"GET"|null, "target":"/path without query"|null,
 *    "status":200, "bytes_out":n, "bytes_in":n, "ms":n,
 *    "service":"…"|null, "credential":"injected|unbound"|null}
 *
 * `host`, `method` and `target` come from the sandbox: the writer escapes and bounds them, the
 * reader trusts no line.  A secret, a query or a header value must never be put into a record. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { LOG_LINE_MAX = 16 * 1024 }; /* no line that log_format() writes is longer */

struct log_record {
    uint64_t time_ms; /* since the epoch */
    uint64_t seq;
    const char *sandbox;
    bool allow;
    const char *rule, *rule_id, *origin; /* NULL: no rule decided */
    const char *reason, *path, *scheme;
    const char *host;
    uint16_t port;
    const char *method, *target; /* NULL when there are none; a query in `target` is left out */
    int status;                  /* 0: no answer */
    uint64_t bytes_out, bytes_in, ms;
    const char *service, *credential; /* NULL: none */
};

/* Appends the record as one line with its newline.  Bytes outside printable ASCII become \u00XX, so
 * that no line of the log can be forged or can reach a terminal raw. */
void log_format(struct sb_buf *out, const struct log_record *record);

/* $STATE/log/NAME.jsonl; makes the directory.  The caller frees. */
int log_path(const char *sandbox, char **ret_path, struct sb_err **err);

/* Reads a log as it grows.  Zero-initialise with the descriptor; release with log_reader_done(). */
struct log_reader {
    int fd; /* owned */
    struct sb_buf line;
    bool skipping;  /* inside a line that is too long */
    size_t damaged; /* lines that hold no record */
};
void log_reader_init(struct log_reader *reader, int fd);
void log_reader_done(struct log_reader *reader);
static inline void sb_cleanup_log_reader(struct log_reader *reader)
{
    log_reader_done(reader);
}
/* `line` is the text without its newline. */
typedef void log_record_fn(void *arg, const json_t *record, const char *line);
/* Hands every whole line from here to the end to `fn`; what follows the last newline waits for the
 * next call. */
int log_reader_read(struct log_reader *reader, log_record_fn *fn, void *arg, struct sb_err **err);
