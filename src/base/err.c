/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

void *sb_xcalloc(size_t count, size_t size)
{
    void *p = calloc(count, size);
    if (!p) {
        abort();
    }
    return p;
}

void *sb_xrealloc(void *ptr, size_t count, size_t size)
{
    void *p = reallocarray(ptr, count, size);
    if (!p) {
        abort();
    }
    return p;
}

char *sb_xstrdup(const char *s)
{
    return sb_xstrndup(s, strlen(s));
}

char *sb_xstrndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = sb_xcalloc(len + 1, 1);
    memcpy(p, s, len);
    return p;
}

__attribute__((format(printf, 1, 0))) static char *format_alloc(const char *format, va_list args)
{
    char *out = NULL;
    if (vasprintf(&out, format, args) < 0) {
        abort();
    }
    return out;
}

char *sb_xasprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *out = format_alloc(format, args);
    va_end(args);
    return out;
}

static void err_put(struct sb_err **err, int code, char *message)
{
    if (!err) {
        free(message);
        return;
    }
    sb_err_free(*err);
    *err = sb_xcalloc(1, sizeof(**err));
    (*err)->code = code;
    (*err)->message = message;
}

int sb_fail(struct sb_err **err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err_put(err, code, format_alloc(format, args));
    va_end(args);
    return code;
}

int sb_fail_errno(struct sb_err **err, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = format_alloc(format, args);
    va_end(args);
    err_put(err, -errnum, sb_xasprintf("%s: %s", what, strerror(errnum)));
    free(what);
    return -errnum;
}

int sb_wrap(struct sb_err **err, int code, const char *format, ...)
{
    if (!err || !*err) {
        return code;
    }
    va_list args;
    va_start(args, format);
    char *context = format_alloc(format, args);
    va_end(args);
    char *joined = sb_xasprintf("%s: %s", context, (*err)->message);
    free(context);
    free((*err)->message);
    (*err)->message = joined;
    return code;
}

int sb_one_line(struct sb_err **err, int code)
{
    if (err && *err) {
        char *line = sb_printable((*err)->message, "");
        free((*err)->message);
        (*err)->message = line;
    }
    return code;
}

void sb_hint(struct sb_err **err, const char *format, ...)
{
    if (!err || !*err) {
        return;
    }
    va_list args;
    va_start(args, format);
    free((*err)->hint);
    (*err)->hint = format_alloc(format, args);
    va_end(args);
}

void sb_err_set_place(struct sb_err **err, const char *file, size_t line, size_t column,
                      size_t length, const char *excerpt)
{
    if (!err || !*err) {
        return;
    }
    struct sb_place *place = &(*err)->place;
    free(place->file);
    free(place->excerpt);
    place->file = file ? sb_xstrdup(file) : NULL;
    place->line = line;
    place->column = column;
    place->length = length;
    place->excerpt = excerpt ? sb_xstrdup(excerpt) : NULL;
}

void sb_err_free(struct sb_err *err)
{
    if (!err) {
        return;
    }
    free(err->message);
    free(err->hint);
    free(err->place.file);
    free(err->place.excerpt);
    free(err);
}

int sb_err_exit_code(const struct sb_err *err)
{
    switch (err->code) {
    case SB_EUSAGE:
        return 2;
    case SB_ESTART:
        return 125;
    default:
        return 1;
    }
}

/* Names and texts in a message are often somebody else's. */
static void print_safely(const char *before, const char *text, const char *keep, const char *after)
{
    char *safe = sb_printable(text, keep);
    fprintf(stderr, "%s%s%s", before, safe, after);
    free(safe);
}

static void print_excerpt(const struct sb_place *place)
{
    fprintf(stderr, "  %zu | ", place->line);
    print_safely("", place->excerpt, "\t", "\n");
    int gutter = snprintf(NULL, 0, "  %zu | ", place->line);
    fprintf(stderr, "%*s", gutter, "");
    for (size_t i = 1; i < place->column; i++) {
        /* A tab in the source keeps its width under itself. */
        fputc(place->excerpt[i - 1] == '\t' ? '\t' : ' ', stderr);
    }
    fputc('^', stderr);
    for (size_t i = 1; i < place->length && i < 200; i++) {
        fputc('~', stderr);
    }
    fputc('\n', stderr);
}

void sb_err_print(const struct sb_err *err)
{
    const struct sb_place *place = &err->place;
    fputs("sbx: ", stderr);
    if (place->file) {
        print_safely("", place->file, "", ":");
        if (place->line) {
            fprintf(stderr, "%zu:%zu:", place->line, place->column);
        }
        fputc(' ', stderr);
    }
    print_safely("", err->message, "\n\t", "\n");
    if (place->excerpt && place->line && place->column <= strlen(place->excerpt) + 1) {
        print_excerpt(place);
    }
    if (err->hint) {
        print_safely("  hint: ", err->hint, "\n\t", "\n");
    }
}
