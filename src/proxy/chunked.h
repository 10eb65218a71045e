/* SPDX-License-Identifier: Apache-2.0
 * The chunked coding of HTTP/1.1 bodies (RFC 9112 7.1), read strictly and written.
 *
 * A body is decoded and coded again: extensions end here, and no reader behind us can find another
 * end than we did. */
#pragma once

#include "proxy/http.h"

/* Zero-initialise, then feed the bytes in any pieces. */
struct chunked {
    int state;
    uint64_t remaining; /* of the present chunk */
    size_t extra;       /* bytes of the present size line, or of the trailer section */
    char name[64];      /* of the present trailer field */
    size_t name_len;
};

/* 1 done, 0 more bytes are needed, -1 malformed.  *ret_used is how many of `len` bytes belong to
 * the body; on -1 the bytes before it were valid.  Data goes to `out` (never more than `len`),
 * trailer lines with their CR LF to `trailers`. */
int chunked_read(struct chunked *scan, const char *data, size_t len, size_t *ret_used,
                 struct sb_buf *out, struct sb_buf *trailers);
/* One chunk; len > 0. */
void chunked_write(struct sb_buf *out, const char *data, size_t len);
/* The last chunk and the trailer lines. */
void chunked_write_end(struct sb_buf *out, const char *trailers, size_t len);
