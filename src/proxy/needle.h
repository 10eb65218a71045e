/* SPDX-License-Identifier: Apache-2.0
 * A search for a few texts in a stream, and what stands in their place.
 *
 * Bytes go through in pieces of any size; at most the longest text is held back, so that one that
 * is split is found.  What was held back is never given out because the stream broke: only its
 * end releases it.  Pure: no I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum needle_kind {
    NEEDLE_EXACT,  /* these bytes */
    NEEDLE_TEXT,   /* also as URLs, JSON and HTML write them */
    NEEDLE_BASE64, /* a piece of base64, of either alphabet, with line breaks */
};

/* The texts; shared by all streams that are searched for them. */
struct needles;

struct needles *needles_new(void);
/* `with` NULL: every byte of a hit becomes '*', which leaves all lengths as they were. */
void needles_add(struct needles *needles, enum needle_kind kind, const char *text, size_t n,
                 const char *with, size_t with_len);
/* All forms of a secret in which a server may send it back. */
void needles_add_secret(struct needles *needles, const char *secret, size_t n);
struct needles *needles_ref(struct needles *needles);
/* Wipes and frees with the last reference; NULL is fine. */
void needles_unref(struct needles *needles);
size_t needles_count(const struct needles *needles);

/* Replaces in a text that is complete; true when something was found.  On overflow nothing of it is
 * left. */
bool needles_replace(const struct needles *needles, struct sb_buf *text);
/* Moves from `in` to `out` what is decided; what is left in `in` may be the beginning of a text.
 * `ends`: nothing follows, so nothing is left, and a beginning that is too long to be chance is
 * masked, too.  True when something was found. */
bool needles_move(const struct needles *needles, struct sb_buf *in, bool ends, struct sb_buf *out);
