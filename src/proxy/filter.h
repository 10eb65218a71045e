/* SPDX-License-Identifier: Apache-2.0
 * What a body goes through on its way: decoded when it is compressed, then searched for secrets or
 * placeholders.
 *
 * Never waits and never guesses: what cannot be decoded fails, and nothing of it that was not
 * searched is given out. */
#pragma once

#include "base/buf.h"
#include "proxy/needle.h"

enum filter_coding { FILTER_IDENTITY, FILTER_GZIP, FILTER_BROTLI, FILTER_UNKNOWN };

struct filter;

/* What a Content-Encoding says. */
enum filter_coding filter_coding_of(const char *value, size_t n);
/* Takes a reference of the needles, which may be NULL.  NULL without memory. */
struct filter *filter_new(enum filter_coding coding, struct needles *needles);
/* The body is collected, at most `max` bytes, and goes through `change` before it is searched;
 * anything but 0 makes the filter fail. */
typedef int filter_change_fn(void *arg, struct sb_buf *body);
void filter_whole(struct filter *filter, size_t max, filter_change_fn *change, void *arg);
void filter_free(struct filter *filter);
/* Where bytes are put as they are read. */
struct sb_buf *filter_input(struct filter *filter);
/* Bytes that it has used so far. */
size_t filter_used(const struct filter *filter);
/* Searches a text that is complete, such as trailers, in place. */
void filter_text(struct filter *filter, struct sb_buf *text);
/* Works as far as `out` has room (`limit` bytes): 0, 1 when all is through, or -1.  `ends`: no more
 * input follows what is there. */
int filter_run(struct filter *filter, bool ends, struct sb_buf *out, size_t limit);
