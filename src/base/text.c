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
