/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"

/* The character at `p` and its length in bytes (RFC 3629, shortest form only); 0 when there is
 * none. */
static size_t decode(const unsigned char *p, unsigned *ret)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = *p < 0x80 ? 1 : (*p & 0xe0) == 0xc0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : 4;
    if (n == 4 && (*p & 0xf8) != 0xf0) {
        return 0;
    }
    unsigned c = n == 1 ? *p : *p & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3fU);
    }
    *ret = c;
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static bool is_control(unsigned c)
{
    bool reorders = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || reorders;
}

static bool is_in(unsigned c, const unsigned (*ranges)[2], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (c >= ranges[i][0] && c <= ranges[i][1]) {
            return true;
        }
    }
    return false;
}

/* Whole blocks (Unicode's EastAsianWidth and general categories Mn, Me, Cf): a table of columns
 * need not know each character. */
static size_t width_of(unsigned c)
{
    static const unsigned none[][2] = {
        {0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x64b, 0x65f},   {0x1ab0, 0x1aff},
        {0x1dc0, 0x1dff}, {0x200b, 0x200f}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}};
    static const unsigned two[][2] = {
        {0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xa960, 0xa97f},
        {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff01, 0xff60},
        {0xffe0, 0xffe6},   {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff},
        {0x20000, 0x3fffd},
    };
    return is_in(c, none, SB_ARRAY_LEN(none)) ? 0 : is_in(c, two, SB_ARRAY_LEN(two)) ? 2 : 1;
}

size_t sb_columns(const char *text)
{
    size_t columns = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        unsigned c = 0;
        size_t n = decode(p, &c);
        columns += n ? width_of(c) : 1;
        p += n ? n : 1;
    }
    return columns;
}

char *sb_printable(const char *text, const char *keep)
{
    char *copy = sb_xcalloc(strlen(text) + 1, 1);
    char *to = copy;
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        unsigned c = 0;
        size_t n = decode(p, &c);
        bool shown = n && (!is_control(c) || (c < 0x80 && strchr(keep, (int)c)));
        if (shown) {
            memcpy(to, p, n);
            to += n;
        } else {
            *to++ = '?';
        }
        p += n ? n : 1;
    }
    return copy;
}

bool sb_is_ascii(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && (unsigned char)text[i] < 0x80) {
        i++;
    }
    return i == len;
}
