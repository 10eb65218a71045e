/* SPDX-License-Identifier: Apache-2.0
 * A growable byte buffer with a hard maximum.
 *
 * Invariants: `data` is NUL-terminated whenever it is not NULL, `len < cap`, `len <= max`.  An
 * append that would pass `max` appends nothing and sets `overflow`, so that a chain of appends
 * needs one check at its end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct sb_buf {
    char *data;
    size_t len, cap, max;
    size_t skip; /* bytes of the allocation before `data`, already consumed */
    bool overflow;
};

void sb_buf_init(struct sb_buf *buf, size_t max_bytes);
void sb_buf_done(struct sb_buf *buf);
/* Same, and wipes the memory first: for buffers that held a secret. */
void sb_buf_wipe(struct sb_buf *buf);
void sb_buf_clear(struct sb_buf *buf);
void sb_buf_append(struct sb_buf *buf, const void *data, size_t len);
void sb_buf_puts(struct sb_buf *buf, const char *s);
void sb_buf_printf(struct sb_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for `len` more bytes at the end, to be filled directly and then counted in by sb_buf_add();
 * NULL, and overflow, when the maximum forbids it. */
char *sb_buf_room(struct sb_buf *buf, size_t len);
void sb_buf_add(struct sb_buf *buf, size_t len);
/* Drops the first n bytes, without moving the others. */
void sb_buf_consume(struct sb_buf *buf, size_t n);
/* Moves the text out (never NULL); the buffer is empty afterwards. */
char *sb_buf_steal(struct sb_buf *buf);

static inline void sb_cleanup_buf(struct sb_buf *buf)
{
    sb_buf_done(buf);
}

static inline void sb_cleanup_wipe(struct sb_buf *buf)
{
    sb_buf_wipe(buf);
}
