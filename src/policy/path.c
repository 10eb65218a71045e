/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/path.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

static int fail_at(struct sb_err **err, size_t offset, size_t length, const char *message)
{
    int r = sb_fail(err, SB_EUSAGE, "%s", message);
    sb_err_set_place(err, NULL, 1, offset + 1, length, NULL);
    return r;
}

/* ---- the globs of rules ---- */

static const char *refuse_char(char c)
{
    if (c == '?' || c == '#') {
        return "a path in a rule has no query and no fragment";
    }
    if (c == '%') {
        return "a path in a rule is written without percent-encoding: write the character itself, "
               "or '*'";
    }
    if (c <= ' ' || c == 0x7f || c == '\\' || c == ';') {
        return "this character cannot stand in a path of a rule";
    }
    return NULL;
}

/* One segment of a glob. */
static int check_segment(const char *text, size_t at, size_t n, struct sb_err **err)
{
    const char *segment = text + at;
    if (!n) {
        return fail_at(err, at, 1, "a path in a rule has no empty segments");
    }
    if (segment[0] == '.' && (n == 1 || (n == 2 && segment[1] == '.'))) {
        return fail_at(err, at, n, "a path in a rule has no '.' or '..' segments");
    }
    if (memmem(segment, n, "**", 2) && n != 2) {
        int r = fail_at(err, at, n, "'**' can only be a whole segment");
        sb_hint(err, "write /a/** for everything below /a, /a/b* for what begins with /a/b");
        return r;
    }
    return 0;
}

int path_glob_check(const char *text, size_t n, struct sb_err **err)
{
    if (!n || text[0] != '/') {
        return fail_at(err, 0, n ? n : 1, "a path begins with '/'");
    }
    for (size_t i = 0; i < n; i++) {
        const char *why = refuse_char(text[i]);
        if (why) {
            return fail_at(err, i, 1, why);
        }
    }
    if (n > 1 && text[n - 1] == '/') {
        int r = fail_at(err, n - 1, 1, "a path in a rule does not end in '/'");
        sb_hint(err, "write %.*s, which means both, or %.*s** for all below", (int)n - 1, text,
                (int)n, text);
        return r;
    }
    for (size_t at = 1; at < n;) {
        const char *slash = memchr(text + at, '/', n - at);
        size_t len = slash ? (size_t)(slash - text) - at : n - at;
        int r = check_segment(text, at, len, err);
        if (r < 0) {
            return r;
        }
        at += len + 1;
    }
    return 0;
}

bool path_glob_is_all(const char *glob)
{
    return strcmp(glob, "/**") == 0;
}

size_t path_glob_prefix(const char *glob, size_t max_segments, size_t max_bytes,
                        size_t *ret_segments)
{
    size_t len = 0, segments = 0;
    while (segments < max_segments && glob[len] == '/' && glob[len + 1]) {
        size_t end = len + 1 + strcspn(glob + len + 1, "/");
        if (end > max_bytes || memchr(glob + len, '*', end - len)) {
            break;
        }
        len = end;
        segments++;
    }
    *ret_segments = segments;
    return len;
}

static bool same_char(char a, char b, bool fold)
{
    return a == b || (fold && tolower((unsigned char)a) == tolower((unsigned char)b));
}

/* One segment against one of a glob, where '*' is any run of characters: going back to the last
 * star is enough. */
static bool segment_matches(const char *glob, size_t glob_len, const char *text, size_t len,
                            bool fold)
{
    size_t g = 0, t = 0, star = SIZE_MAX, resume = 0;
    if (glob_len == 1 && glob[0] == '*') {
        return len > 0;
    }
    while (t < len) {
        if (g < glob_len && glob[g] == '*') {
            star = g++;
            resume = t;
        } else if (g < glob_len && same_char(glob[g], text[t], fold)) {
            g++, t++;
        } else if (star != SIZE_MAX) {
            g = star + 1;
            t = ++resume;
        } else {
            return false;
        }
    }
    while (g < glob_len && glob[g] == '*') {
        g++;
    }
    return g == glob_len;
}

/* The length of the segment behind the slash. */
static size_t segment_len(const char *slash)
{
    return strcspn(slash + 1, "/");
}

bool path_glob_matches(const char *glob, const struct path_reading *reading, bool fold)
{
    const char *g = glob, *t = reading->text, *star = NULL, *resume = NULL;
    if (strcmp(glob, "/") == 0) {
        return reading->len == 0;
    }
    /* Both stand at the slash of their next segment, or at the end. */
    while (*t) {
        size_t glob_len = *g ? segment_len(g) : 0, len = segment_len(t);
        if (glob_len == 2 && g[1] == '*' && g[2] == '*') {
            g += 3;
            star = g;
            resume = t;
        } else if (*g && segment_matches(g + 1, glob_len, t + 1, len, fold)) {
            g += glob_len + 1;
            t += len + 1;
        } else if (star) {
            g = star;
            resume += segment_len(resume) + 1;
            t = resume;
        } else {
            return false;
        }
    }
    while (strncmp(g, "/**", 3) == 0 && (g[3] == '/' || !g[3])) {
        g += 3;
    }
    return !*g;
}

/* ---- the paths of requests ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int path_escaped_byte(const char *digits, size_t n)
{
    int high = n >= 2 ? hex(digits[0]) : -1, low = high >= 0 ? hex(digits[1]) : -1;
    return low >= 0 ? high << 4 | low : -1;
}

/* Bytes that some server removes, decodes once more, takes for a slash, or ends the path at.  0xc0
 * and 0xc1 begin nothing in UTF-8 but disguised ASCII. */
static bool is_unclear(int byte)
{
    return byte < ' ' || byte == '%' || byte == ';' || byte == '\\' || byte == 0x7f ||
           byte == 0xc0 || byte == 0xc1;
}

/* Decodes into reading->text; false where that leaves something to doubt. */
static bool decode(const char *target, size_t n, struct path_reading *reading)
{
    for (size_t i = 0; i < n; i++) {
        int byte = (unsigned char)target[i];
        bool escaped = byte == '%';
        if (escaped) {
            byte = path_escaped_byte(target + i + 1, n - i - 1);
            i += 2;
        }
        if (is_unclear(byte)) {
            return false;
        }
        if (escaped && byte == '/') {
            byte = PATH_ESCAPED_SLASH;
            reading->has_escaped_slash = true;
        }
        reading->text[reading->len++] = (char)byte;
    }
    return true;
}

/* Are all segments plain names, whichever way escaped slashes are read? */
static bool plain_segments(const char *text)
{
    static const char slashes[] = {'/', PATH_ESCAPED_SLASH, '\0'};
    while (*text) {
        const char *segment = text + 1;
        size_t n = strcspn(segment, slashes);
        if (n == 0 || (segment[0] == '.' && (n == 1 || (n == 2 && segment[1] == '.')))) {
            return false;
        }
        text = segment + n;
    }
    return true;
}

void path_read(const char *target, size_t n, struct path_reading *ret)
{
    ret->has_escaped_slash = false;
    ret->len = 0;
    const char *query = memchr(target, '?', n);
    n = query ? (size_t)(query - target) : n;
    bool clear = n < PATH_READ_MAX && (n == 0 || target[0] == '/') && decode(target, n, ret);
    if (clear && ret->len && ret->text[ret->len - 1] == '/') {
        ret->len--;
    }
    ret->text[ret->len] = '\0';
    ret->unclear = !clear || !plain_segments(ret->text);
}

void path_open_slashes(struct path_reading *reading)
{
    for (size_t i = 0; i < reading->len; i++) {
        if (reading->text[i] == PATH_ESCAPED_SLASH) {
            reading->text[i] = '/';
        }
    }
    reading->has_escaped_slash = false;
}
