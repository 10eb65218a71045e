/* SPDX-License-Identifier: Apache-2.0
 * The hash chain of the request log: each line ends with a value over the one before and itself.
 *
 *   {"v":1,"seq":8,…,"chain":"<64 hex digits>"}
 *
 * The value is the SHA-256 of the 64 digits of the line before followed by this line's bytes up to,
 * and without, `,"chain":`.  So a changed, moved, added or missing line does not fit any more, and
 * a short script can check it (docs/audit-log.md).  Whoever may write the file can write a whole
 * new chain: the chain is no secret and no signature. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

enum { LOG_HASH_MAX = 65 }; /* hexadecimal SHA-256 with its terminator */

/* Where a log is: its last line. */
struct log_chain {
    uint64_t seq; /* 0: no line yet */
    char value[LOG_HASH_MAX];
};

void log_sha256(const void *data, size_t len, char ret[LOG_HASH_MAX]);
/* The chain of a log without a line: seq 0 and 64 zeros. */
static inline void log_chain_init(struct log_chain *chain)
{
    *chain = (struct log_chain){0};
    memset(chain->value, '0', LOG_HASH_MAX - 1);
}
/* Ends the line that begins at out->data + start and has no `}` yet, newline included, and moves
 * the chain on to it. */
void log_chain_seal(struct log_chain *chain, struct sb_buf *out, size_t start);
/* Finds the chain value at the end of a line (without its newline); false when there is none.
 * *ret_body: how many bytes of the line are hashed. */
bool log_chain_split(const char *line, size_t len, size_t *ret_body, char ret_value[LOG_HASH_MAX]);
/* The value that a line of these bytes has behind one whose value is `before`. */
void log_chain_next(const char before[LOG_HASH_MAX], const char *body, size_t len,
                    char ret[LOG_HASH_MAX]);
/* The place of a sealed line; false when it has none (no log line, or not one of ours). */
bool log_chain_of_line(const char *line, size_t len, struct log_chain *ret);
