/* SPDX-License-Identifier: Apache-2.0
 * Errors: a code, a message, an optional place in a source file and an optional hint.
 *
 * Every fallible function returns 0 or a negative code and takes `struct sb_err **err` last.
 * `*err` is untouched on success; the caller passes NULL when it does not care.  A failure is one
 * statement: `return sb_fail(err, SB_EUSAGE, "...")`.  Library code never prints and never exits.
 * A secret must never be put into a message. */
#pragma once

#include <stddef.h>

#include "base/cleanup.h"

/* Negative errno values share the space with these; ours start below -4096. */
enum sb_code {
    SB_EFAIL = -4096,  /* failed; the message says why */
    SB_EUSAGE = -4097, /* the caller's words are wrong: exit code 2 */
    SB_ESPEC = -4098,  /* a kit's spec.yaml is wrong */
    SB_ELIMIT = -4099, /* an input exceeded a limit */
    SB_ESTART = -4100, /* a sandbox could not start: exit code 125 */
    SB_ENOTFOUND = -4101,
    SB_EEXIST = -4102,
    SB_EPROTO = -4103, /* a peer broke the protocol */
};

/* A place in a source text.  Lines and columns count from 1; 0 means unknown. */
struct sb_place {
    char *file;
    size_t line, column, length;
    char *excerpt; /* the text of that line, without its newline */
};

struct sb_err {
    int code;
    char *message;
    char *hint; /* what to do next, or NULL */
    struct sb_place place;
};

/* Makes *err (when wanted) and returns `code`. */
int sb_fail(struct sb_err **err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Same, with ": <text of errnum>" appended; returns -errnum. */
int sb_fail_errno(struct sb_err **err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "context: " before the message of an error that exists; returns `code` unchanged. */
int sb_wrap(struct sb_err **err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Makes the message of an error that exists one line of UTF-8, whatever it quotes: a stranger's
 * text in it cannot look like a line of ours.  Returns `code` unchanged. */
int sb_one_line(struct sb_err **err, int code);
/* Sets or replaces the hint of an error that exists. */
void sb_hint(struct sb_err **err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Sets the place; strings are copied. */
void sb_err_set_place(struct sb_err **err, const char *file, size_t line, size_t column,
                      size_t length, const char *excerpt);

void sb_err_free(struct sb_err *err);
SB_DEFINE_CLEANUP(err, struct sb_err *, sb_err_free)

/* The exit code that stands for this error (see sbx(1), EXIT STATUS). */
int sb_err_exit_code(const struct sb_err *err);
/* Prints "sbx: file:line:col: message", the excerpt with a caret, and the hint to stderr. */
void sb_err_print(const struct sb_err *err);

/* Small fixed-size allocations: abort when memory is gone.  Sizes that an outsider influences are
 * bounded by the caller first. */
void *sb_xcalloc(size_t count, size_t size);
void *sb_xrealloc(void *ptr, size_t count, size_t size);
char *sb_xstrdup(const char *s);
char *sb_xstrndup(const char *s, size_t n);
char *sb_xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
