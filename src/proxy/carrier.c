/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/carrier.h"

#include <string.h>

static char fold(char c)
{
    return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool carrier_same_name(const char *name, size_t n, const char *want)
{
    if (n != strlen(want)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (fold(name[i]) != fold(want[i])) {
            return false;
        }
    }
    return true;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)((at - digits) % 16) : -1;
}

/* What servers make of a byte of a parameter's name: PHP reads all of these as '_'. */
static char name_byte(char c)
{
    return c && strchr(".+ [", c) ? '_' : c;
}

bool carrier_parameter_is(const char *piece, size_t n, const char *const *names, size_t count)
{
    char name[16];
    size_t len = 0;
    for (size_t i = 0; i < n && piece[i] != '='; i++) {
        char c = piece[i];
        if (c == '%' && n - i > 2 && hex_digit(piece[i + 1]) >= 0 && hex_digit(piece[i + 2]) >= 0) {
            c = (char)(hex_digit(piece[i + 1]) << 4 | hex_digit(piece[i + 2]));
            i += 2;
        }
        /* Google's names may begin with '$'. */
        if (!len && (c == ' ' || c == '+' || c == '$')) {
            continue;
        }
        if (len == sizeof(name)) {
            return false;
        }
        name[len++] = name_byte(c);
    }
    for (size_t i = 0; i < count; i++) {
        if (carrier_same_name(name, len, names[i])) {
            return true;
        }
    }
    return false;
}

/* Parameters that are nothing else, at servers that are in use; "token" stands before the field for
 * Gitea and Forgejo.  Not signed links: what was signed is one thing, and nobody's account. */
static bool is_credential(const char *piece, size_t n)
{
    static const char *const names[] = {/* in general use */
                                        "key", "api-key", "apikey", "x-api-key", "token",
                                        "access-token", "auth-token", "api-token", "oauth-token",
                                        "bearer-token", "auth", "jwt",
                                        /* of well-known services */
                                        "private-token", "job-token", "deploy-token", "feed-token",
                                        "rss-token", "circle-token", "subscription-key"};
    return carrier_parameter_is(piece, n, names, SB_ARRAY_LEN(names));
}

size_t carrier_parameter_len(const char *piece, const char *end)
{
    const char *stop = piece;
    while (stop < end && *stop != '&' && *stop != ';') {
        stop++;
    }
    return (size_t)(stop - piece);
}

bool carrier_strip_query(const char *path, size_t n, const char *kept, struct sb_buf *out)
{
    const char *end = path + n, *mark = n ? memchr(path, '?', n) : NULL;
    if (!mark) {
        return false;
    }
    bool stripped = false;
    char separator = '?';
    sb_buf_append(out, path, (size_t)(mark - path));
    for (const char *p = mark; p < end;) {
        const char *piece = p + 1;
        size_t len = carrier_parameter_len(piece, end);
        if (is_credential(piece, len) && !(kept && memmem(piece, len, kept, strlen(kept)))) {
            stripped = true;
        } else {
            sb_buf_append(out, separator == '?' ? "?" : p, 1);
            sb_buf_append(out, piece, len);
            separator = '&';
        }
        p = piece + len;
    }
    if (!out->len) {
        sb_buf_puts(out, "/");
    }
    return stripped;
}
