/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

void sb_buf_init(struct sb_buf *buf, size_t max_bytes)
{
    assert(max_bytes < SIZE_MAX / 4);
    *buf = (struct sb_buf){.max = max_bytes};
}

/* What was allocated. */
static char *base_of(const struct sb_buf *buf)
{
    return buf->data ? buf->data - buf->skip : NULL;
}

void sb_buf_done(struct sb_buf *buf)
{
    free(base_of(buf));
    *buf = (struct sb_buf){.max = buf->max};
}

void sb_buf_wipe(struct sb_buf *buf)
{
    if (buf->data) {
        explicit_bzero(base_of(buf), buf->skip + buf->cap);
    }
    sb_buf_done(buf);
}

void sb_buf_clear(struct sb_buf *buf)
{
    buf->overflow = false;
    if (buf->data) {
        sb_buf_consume(buf, buf->len);
    }
}

/* Makes room for `extra` bytes and the terminator; false when the maximum forbids it. */
static bool buf_reserve(struct sb_buf *buf, size_t extra)
{
    if (buf->overflow || extra > buf->max - buf->len) {
        buf->overflow = true;
        return false;
    }
    size_t need = buf->len + extra + 1;
    if (need <= buf->cap) {
        return true;
    }
    if (need <= buf->cap + buf->skip) {
        char *base = base_of(buf);
        memmove(base, buf->data, buf->len + 1);
        buf->cap += buf->skip;
        buf->skip = 0;
        buf->data = base;
        return true;
    }
    size_t cap = buf->cap ? buf->cap * 2 : 64;
    cap = cap < need ? need : cap;
    /* Not realloc of the old block: it could leave a copy of a secret behind in freed memory. */
    char *data = sb_xrealloc(NULL, cap, 1);
    if (buf->data) {
        memcpy(data, buf->data, buf->len);
        explicit_bzero(base_of(buf), buf->skip + buf->len);
        free(base_of(buf));
    }
    buf->data = data;
    buf->cap = cap;
    buf->skip = 0;
    return true;
}

void sb_buf_append(struct sb_buf *buf, const void *data, size_t len)
{
    if (!buf_reserve(buf, len)) {
        return;
    }
    if (len) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    buf->data[buf->len] = '\0';
}

char *sb_buf_room(struct sb_buf *buf, size_t len)
{
    return buf_reserve(buf, len) ? buf->data + buf->len : NULL;
}

void sb_buf_add(struct sb_buf *buf, size_t len)
{
    assert(len < buf->cap - buf->len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void sb_buf_puts(struct sb_buf *buf, const char *s)
{
    sb_buf_append(buf, s, strlen(s));
}

void sb_buf_printf(struct sb_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    size_t room = buf->data ? buf->cap - buf->len : 0; /* mostly enough, without a second pass */
    int n = vsnprintf(room ? buf->data + buf->len : NULL, room, format, args);
    va_end(args);
    assert(n >= 0);
    if ((size_t)n < room && (size_t)n <= buf->max - buf->len && !buf->overflow) {
        buf->len += (size_t)n;
    } else {
        if (room) {
            buf->data[buf->len] = '\0';
        }
        if (buf_reserve(buf, (size_t)n)) {
            vsnprintf(buf->data + buf->len, (size_t)n + 1, format, again);
            buf->len += (size_t)n;
        }
    }
    va_end(again);
}

void sb_buf_consume(struct sb_buf *buf, size_t n)
{
    assert(n <= buf->len);
    if (!buf->data) {
        return;
    }
    buf->len -= n;
    if (buf->len) {
        buf->data += n;
        buf->cap -= n;
        buf->skip += n;
    } else {
        buf->data -= buf->skip;
        buf->cap += buf->skip;
        buf->skip = 0;
        buf->data[0] = '\0';
    }
}

char *sb_buf_steal(struct sb_buf *buf)
{
    if (!buf->data) {
        return sb_xstrdup("");
    }
    char *out = base_of(buf);
    memmove(out, buf->data, buf->len + 1);
    *buf = (struct sb_buf){.max = buf->max};
    return out;
}
