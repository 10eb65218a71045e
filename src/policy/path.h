/* SPDX-License-Identifier: Apache-2.0
 * Paths of requests, and the globs of rules that name them.  For policy/ and for the rules of
 * credentials.
 *
 * A glob is a path of plain characters; '*' stands for any characters within a segment (alone: for
 * one whole segment), the segment '**' for any number of segments, none as well.
 *
 * A path comes from the sandbox and is read by a server we do not know.  So a path is judged by
 * what it may be read as: an allow rule must cover every reading, a deny rule only one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { PATH_READ_MAX = 8192 };

/* A path, percent-decoded, without query and without the slash at its end. */
struct path_reading {
    /* A path that servers read differently (dot segments, "//", ';', '\', control characters), or
     * one too long to be judged: `text` means nothing. */
    bool unclear;
    bool has_escaped_slash; /* "%2F": text has PATH_ESCAPED_SLASH there */
    size_t len;
    char text[PATH_READ_MAX]; /* "" is the root, else it begins with '/' */
};
enum { PATH_ESCAPED_SLASH = 1 };

void path_read(const char *target, size_t n, struct path_reading *ret);
/* The other reading of a path with escaped slashes: that they are slashes. */
void path_open_slashes(struct path_reading *reading);

/* The byte that "%XX" stands for, of the `n` characters behind the '%'; -1 when they do not begin
 * with two digits. */
int path_escaped_byte(const char *digits, size_t n);

/* Checks `n` bytes; errors carry a column that counts from the beginning of `text`. */
int path_glob_check(const char *text, size_t n, struct sb_err **err);
bool path_glob_is_all(const char *glob);
/* `fold`: upper and lower case are the same. */
bool path_glob_matches(const char *glob, const struct path_reading *reading, bool fold);
/* The length of the longest beginning of the glob that is whole segments without a '*', at most
 * `max_segments` and `max_bytes`; *ret_segments is their number. */
size_t path_glob_prefix(const char *glob, size_t max_segments, size_t max_bytes,
                        size_t *ret_segments);
