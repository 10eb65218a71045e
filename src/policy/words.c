/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/words.h"

#include <string.h>

#include "base/buf.h"
#include "policy/policy.h"

enum { LINE_BUF_MAX = 64 * 1024 }; /* what is too long for a rule is refused as one */

/* The word of the line that holds the column `at`. */
struct part {
    size_t at;
    const char *text;
    size_t begin;
};

/* Appends a keyword and a word of the person's. */
static void put(struct sb_buf *line, const char *keyword, const char *text, struct part *part)
{
    sb_buf_puts(line, keyword);
    if (part->at >= line->len) {
        part->begin = line->len;
        part->text = text;
    }
    sb_buf_puts(line, text);
}

/* Writes the line; tells which of the person's words stands at part->at. */
static void put_line(struct sb_buf *line, bool allow, const struct policy_words *words,
                     struct part *part)
{
    put(line, allow ? "allow " : "deny ", words->pattern, part);
    if (words->methods) {
        put(line, " method ", words->methods, part);
    }
    if (words->path) {
        put(line, " path ", words->path, part);
    }
    for (size_t i = 0; i < words->nexcept; i++) {
        put(line, i ? " " : " except ", words->except[i], part);
    }
}

/* The caret belongs under what the person wrote. */
static void point_into_word(bool allow, const struct policy_words *words, struct sb_err **err)
{
    if (!err || !*err || !(*err)->place.column) {
        return;
    }
    SB_CLEANUP(buf) struct sb_buf line;
    sb_buf_init(&line, LINE_BUF_MAX);
    struct part part = {.at = (*err)->place.column - 1, .text = words->pattern};
    put_line(&line, allow, words, &part);
    size_t column = part.at - part.begin + 1, length = (*err)->place.length;
    if (part.at < part.begin || column > strlen(part.text) + 1) {
        column = 1; /* a keyword that nobody wrote: the word before it does not go with it */
        length = strlen(part.text);
    }
    SB_CLEANUP(free) char *excerpt = sb_xstrdup(part.text);
    for (char *p = excerpt; *p; p++) {
        *p = (*p > 0 && *p < ' ') || *p == 0x7f ? '?' : *p;
    }
    sb_err_set_place(err, NULL, 1, column, length, excerpt);
}

int policy_canonical_words(bool allow, const struct policy_words *words, char **ret,
                           struct sb_err **err)
{
    SB_CLEANUP(buf) struct sb_buf line;
    sb_buf_init(&line, LINE_BUF_MAX);
    struct part none = {.at = 0};
    put_line(&line, allow, words, &none);
    if (line.overflow) {
        return sb_fail(err, SB_ELIMIT, "the rule is too long");
    }
    int r = policy_canonical_line(line.data, ret, err);
    if (r < 0) {
        point_into_word(allow, words, err);
    }
    return r;
}

int policy_canonical_pattern(bool allow, const char *pattern, char **ret, struct sb_err **err)
{
    return policy_canonical_words(allow, &(struct policy_words){.pattern = pattern}, ret, err);
}
