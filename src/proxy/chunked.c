/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/chunked.h"

enum {
    CHUNK_LINE_MAX = 1024,       /* a size with its extensions */
    CHUNK_TRAILER_MAX = 8 * 1024 /* the whole trailer section */
};

enum chunk_state {
    CHUNK_START, /* the first digit of a size */
    CHUNK_SIZE,
    CHUNK_EXTENSION, /* its name */
    CHUNK_EXTENSION_VALUE,
    CHUNK_EXTENSION_QUOTED,
    CHUNK_EXTENSION_END, /* behind the quotes */
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER, /* at the start of a trailer line */
    CHUNK_TRAILER_NAME,
    CHUNK_TRAILER_VALUE,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_DONE,
};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A byte of `;name`, `;name=token` or `;name="text"`.  Nobody wants them, but a reader behind us
 * that is strict about them must not find another end of the line. */
static int chunk_extension_byte(struct chunked *scan, char c)
{
    bool first = scan->name_len++ == 0;
    if (scan->state == CHUNK_EXTENSION_QUOTED) {
        scan->state = c == '"' ? CHUNK_EXTENSION_END : CHUNK_EXTENSION_QUOTED;
        return c != '\\' && http_is_value(&c, 1) ? 0 : -1;
    }
    if (scan->state == CHUNK_EXTENSION_VALUE && first && c == '"') {
        scan->state = CHUNK_EXTENSION_QUOTED;
        return 0;
    }
    if (scan->state != CHUNK_EXTENSION_END && http_is_token(&c, 1)) {
        return 0;
    }
    if (first && scan->state != CHUNK_EXTENSION_END) {
        return -1;
    }
    bool equals = c == '=' && scan->state == CHUNK_EXTENSION;
    scan->name_len = 0;
    scan->state = c == '\r' ? CHUNK_SIZE_LF : equals ? CHUNK_EXTENSION_VALUE : CHUNK_EXTENSION;
    return c == '\r' || c == ';' || equals ? 0 : -1;
}

/* A byte of the line that holds size and extensions. */
static int chunk_size_byte(struct chunked *scan, char c)
{
    if (++scan->extra > CHUNK_LINE_MAX) {
        return -1;
    }
    if (scan->state >= CHUNK_EXTENSION) {
        return chunk_extension_byte(scan, c);
    }
    int digit = hex_value(c);
    bool too_large = scan->remaining > UINT64_MAX >> 8; /* far above any real body */
    if (too_large || (digit < 0 && scan->state == CHUNK_START)) {
        return -1;
    }
    if (digit >= 0) {
        scan->remaining = scan->remaining << 4 | (uint64_t)digit;
        scan->state = CHUNK_SIZE;
    } else if (c == '\r') {
        scan->state = CHUNK_SIZE_LF;
    } else if (c == ';') {
        scan->state = CHUNK_EXTENSION;
        scan->name_len = 0;
    } else {
        return -1;
    }
    return 0;
}

/* A byte of the trailer section. */
static int chunk_trailer_byte(struct chunked *scan, char c)
{
    if (++scan->extra > CHUNK_TRAILER_MAX) {
        return -1;
    }
    if (scan->state == CHUNK_TRAILER) {
        scan->name_len = 0;
        scan->state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER_NAME;
        if (c == '\r') {
            return 0;
        }
    }
    if (scan->state == CHUNK_TRAILER_VALUE) {
        if (c == '\r') {
            scan->state = CHUNK_TRAILER_LF;
            return 0;
        }
        return http_is_value(&c, 1) ? 0 : -1;
    }
    if (c == ':') {
        scan->state = CHUNK_TRAILER_VALUE;
        return scan->name_len && http_trailer_allowed(scan->name, scan->name_len) ? 0 : -1;
    }
    if (scan->name_len == sizeof(scan->name) || !http_is_token(&c, 1)) {
        return -1;
    }
    scan->name[scan->name_len++] = c;
    return 0;
}

/* One byte that is not chunk data. */
static int chunk_byte(struct chunked *scan, char c)
{
    switch ((enum chunk_state)scan->state) {
    case CHUNK_START:
    case CHUNK_SIZE:
    case CHUNK_EXTENSION:
    case CHUNK_EXTENSION_VALUE:
    case CHUNK_EXTENSION_QUOTED:
    case CHUNK_EXTENSION_END:
        return chunk_size_byte(scan, c);
    case CHUNK_SIZE_LF:
        scan->extra = 0;
        scan->state = scan->remaining ? CHUNK_DATA : CHUNK_TRAILER;
        return c == '\n' ? 0 : -1;
    case CHUNK_DATA_CR:
        scan->state = CHUNK_DATA_LF;
        return c == '\r' ? 0 : -1;
    case CHUNK_DATA_LF:
        scan->state = CHUNK_START;
        return c == '\n' ? 0 : -1;
    case CHUNK_TRAILER_LF:
        scan->state = CHUNK_TRAILER;
        return c == '\n' ? 0 : -1;
    case CHUNK_END_LF:
        scan->state = CHUNK_DONE;
        return c == '\n' ? 0 : -1;
    case CHUNK_TRAILER:
    case CHUNK_TRAILER_NAME:
    case CHUNK_TRAILER_VALUE:
        return chunk_trailer_byte(scan, c);
    case CHUNK_DATA:
    case CHUNK_DONE:
        break;
    }
    return -1;
}

static bool in_trailer_line(const struct chunked *scan)
{
    return scan->state >= CHUNK_TRAILER_NAME && scan->state <= CHUNK_TRAILER_LF;
}

/* As much of a chunk as is there. */
static size_t chunk_data(struct chunked *scan, const char *data, size_t len, struct sb_buf *out)
{
    size_t take = scan->remaining < len ? (size_t)scan->remaining : len;
    sb_buf_append(out, data, take);
    scan->remaining -= take;
    if (!scan->remaining) {
        scan->state = CHUNK_DATA_CR;
    }
    return take;
}

int chunked_read(struct chunked *scan, const char *data, size_t len, size_t *ret_used,
                 struct sb_buf *out, struct sb_buf *trailers)
{
    size_t at = 0;
    int r = 0;
    while (at < len && scan->state != CHUNK_DONE && r == 0) {
        if (scan->state == CHUNK_DATA) {
            at += chunk_data(scan, data + at, len - at, out);
            continue;
        }
        bool was_line = in_trailer_line(scan);
        r = chunk_byte(scan, data[at]);
        if (r == 0 && (was_line || in_trailer_line(scan))) {
            sb_buf_append(trailers, data + at, 1);
        }
        at += r == 0;
    }
    *ret_used = at;
    return r < 0 ? -1 : scan->state == CHUNK_DONE;
}

void chunked_write(struct sb_buf *out, const char *data, size_t len)
{
    sb_buf_printf(out, "%zx\r\n", len);
    sb_buf_append(out, data, len);
    sb_buf_append(out, "\r\n", 2);
}

void chunked_write_end(struct sb_buf *out, const char *trailers, size_t len)
{
    sb_buf_append(out, "0\r\n", 3);
    sb_buf_append(out, trailers, len);
    sb_buf_append(out, "\r\n", 2);
}
