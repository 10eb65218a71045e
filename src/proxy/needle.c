/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/needle.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/base64.h"
#include "base/err.h"

enum {
    TAIL_MIN = 6,
    /* Line breaks within base64: how many at once, and behind how many characters.  Were one
     * allowed behind the first, the end of many a line would be held back. */
    BREAKS_MAX = 4,
    BREAK_BEHIND = 4,
};

struct needle {
    enum needle_kind kind;
    char *text, *with;
    size_t len, with_len;
};

struct needles {
    unsigned refs;
    struct needle *list;
    size_t n;
    /* Can a hit begin with this byte, or with these two?  Most bytes are passed over by that. */
    bool first[256];
    uint8_t pair[256][256 / 8];
};

struct needles *needles_new(void)
{
    struct needles *needles = sb_xcalloc(1, sizeof(*needles));
    needles->refs = 1;
    return needles;
}

struct needles *needles_ref(struct needles *needles)
{
    needles->refs++;
    return needles;
}

static void wipe(char *text, size_t n)
{
    if (text) {
        explicit_bzero(text, n);
        free(text);
    }
}

void needles_unref(struct needles *needles)
{
    if (!needles || --needles->refs) {
        return;
    }
    for (size_t i = 0; i < needles->n; i++) {
        wipe(needles->list[i].text, needles->list[i].len);
        wipe(needles->list[i].with, needles->list[i].with_len);
    }
    free(needles->list);
    free(needles);
}

size_t needles_count(const struct needles *needles)
{
    return needles->n;
}

/* ---- One character and its forms ---- */

enum { NO = 0, PARTIAL = -1 }; /* else: bytes used */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* `prefix` and then two hexadecimal digits that make `c`. */
static int hex_form(char c, const char *prefix, const char *p, size_t n)
{
    size_t len = strlen(prefix), common = n < len ? n : len;
    if (strncmp(p, prefix, common) != 0) {
        return NO;
    }
    if (n > len && hex_digit(p[len]) != ((unsigned char)c >> 4)) {
        return NO;
    }
    if (n > len + 1 && hex_digit(p[len + 1]) != (c & 15)) {
        return NO;
    }
    return n > len + 1 ? (int)len + 2 : PARTIAL;
}

static int word_form(const char *word, const char *p, size_t n)
{
    size_t len = strlen(word);
    if (memcmp(p, word, n < len ? n : len) != 0) {
        return NO;
    }
    return n < len ? PARTIAL : (int)len;
}

/* As HTML writes it: by name or by number. */
static int html_form(char c, const char *p, size_t n)
{
    static const struct {
        char c;
        const char *word;
    } names[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&apos;"}};
    char numbers[3][16];
    snprintf(numbers[0], sizeof(numbers[0]), "&#%d;", (unsigned char)c);
    snprintf(numbers[1], sizeof(numbers[1]), "&#x%x;", (unsigned char)c);
    snprintf(numbers[2], sizeof(numbers[2]), "&#x%X;", (unsigned char)c);
    int r = NO;
    for (size_t i = 0; i < SB_ARRAY_LEN(names) && r == NO; i++) {
        r = names[i].c == c ? word_form(names[i].word, p, n) : NO;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(numbers) && r == NO; i++) {
        r = word_form(numbers[i], p, n);
    }
    return r;
}

/* As JSON and its relatives write it. */
static int backslash_form(char c, const char *p, size_t n)
{
    if (n < 2) {
        return PARTIAL;
    }
    if (p[1] == c && strchr("\"\\/'", c)) {
        return 2;
    }
    return p[1] == 'x' ? hex_form(c, "\\x", p, n) : hex_form(c, "\\u00", p, n);
}

/* How many bytes at `p` (n > 0) stand for `c`. */
static int form(enum needle_kind kind, char c, const char *p, size_t n)
{
    int r = p[0] == '%'    ? hex_form(c, "%", p, n)
            : p[0] == '\\' ? backslash_form(c, p, n)
            : p[0] == '&'  ? html_form(c, p, n)
            : p[0] == '+'  ? c == ' '
                           : NO;
    bool plain = p[0] == c || (kind == NEEDLE_BASE64 &&
                               ((c == '+' && p[0] == '-') || (c == '/' && p[0] == '_')));
    return r != NO ? r : plain;
}

/* Line breaks within base64, as they are or escaped. */
static int line_break(const char *p, size_t n)
{
    if (p[0] == '\r' || p[0] == '\n') {
        return 1;
    }
    if (p[0] != '\\') {
        return NO;
    }
    return n < 2 ? PARTIAL : p[1] == 'r' || p[1] == 'n' ? 2 : NO;
}

/* ---- One text ---- */

/* Skips breaks.  *at moves; PARTIAL when the bytes end there. */
static int skip_breaks(const char *p, size_t n, size_t *at)
{
    for (int i = 0; i < BREAKS_MAX; i++) {
        if (*at == n) {
            return PARTIAL;
        }
        int r = line_break(p + *at, n - *at);
        if (r <= 0) {
            return r;
        }
        *at += (size_t)r;
    }
    return NO;
}

/* Bytes that the text takes at `p`, NO or PARTIAL. */
static ssize_t match(const struct needle *needle, const char *p, size_t n)
{
    if (needle->kind == NEEDLE_EXACT) {
        size_t common = n < needle->len ? n : needle->len;
        return memcmp(p, needle->text, common) != 0 ? NO
               : common < needle->len               ? PARTIAL
                                                    : (ssize_t)common;
    }
    size_t at = 0;
    for (size_t i = 0; i < needle->len; i++) {
        int r = i >= BREAK_BEHIND && needle->kind == NEEDLE_BASE64 ? skip_breaks(p, n, &at) : NO;
        if (r == PARTIAL || at == n) {
            return PARTIAL;
        }
        r = form(needle->kind, needle->text[i], p + at, n - at);
        if (r <= 0) {
            return r;
        }
        at += (size_t)r;
    }
    return (ssize_t)at;
}

/* Which bytes may begin a hit is what match() says of all of them. */
static void note_beginnings(struct needles *needles, const struct needle *needle)
{
    for (int first = 0; first < 256; first++) {
        char p[2] = {(char)first};
        if (match(needle, p, 1) == NO) {
            continue;
        }
        needles->first[first] = true;
        for (int second = 0; second < 256; second++) {
            p[1] = (char)second;
            if (match(needle, p, 2) != NO) {
                needles->pair[first][second / 8] |= (uint8_t)(1 << second % 8);
            }
        }
    }
}

void needles_add(struct needles *needles, enum needle_kind kind, const char *text, size_t n,
                 const char *with, size_t with_len)
{
    assert(n > 0);
    needles->list = sb_xrealloc(needles->list, needles->n + 1, sizeof(*needles->list));
    struct needle *needle = &needles->list[needles->n++];
    *needle = (struct needle){.kind = kind,
                              .text = sb_xstrndup(text, n),
                              .len = n,
                              .with = with ? sb_xstrndup(with, with_len) : NULL,
                              .with_len = with_len};
    note_beginnings(needles, needle);
}

/* The characters of base64 that the secret alone decides, when `before` bytes stand before it in a
 * group of three.  Whatever is around it, they are there. */
static void add_base64(struct needles *needles, const char *secret, size_t n, size_t before)
{
    struct sb_buf plain, text;
    sb_buf_init(&plain, n + 3);
    sb_buf_init(&text, 2 * n + 8);
    sb_buf_append(&plain, "\0\0", before);
    sb_buf_append(&plain, secret, n);
    sb_base64_encode(&text, plain.data, plain.len);
    size_t start = before ? before + 1 : 0, end = (before + n) * 8 / 6;
    /* Behind a break that comes too early the rest is found by itself. */
    for (size_t skip = 0; skip < BREAK_BEHIND && start + skip + TAIL_MIN <= end; skip++) {
        needles_add(needles, NEEDLE_BASE64, text.data + start + skip, end - start - skip, NULL, 0);
    }
    sb_buf_wipe(&plain);
    sb_buf_wipe(&text);
}

void needles_add_secret(struct needles *needles, const char *secret, size_t n)
{
    needles_add(needles, NEEDLE_TEXT, secret, n, NULL, 0);
    needles_add(needles, NEEDLE_EXACT, secret, n, NULL, 0); /* were it itself to look escaped */
    for (size_t before = 0; before < 3; before++) {
        add_base64(needles, secret, n, before);
    }
}

/* ---- The stream ---- */

struct hit {
    const struct needle *needle; /* the one that takes most, or NULL */
    size_t len;
    bool partial; /* another one may begin here ... */
    bool masked;  /* ... which would be masked */
};

static struct hit look(const struct needles *needles, const char *p, size_t n)
{
    struct hit hit = {0};
    for (size_t i = 0; i < needles->n; i++) {
        ssize_t r = match(&needles->list[i], p, n);
        hit.partial |= r == PARTIAL;
        hit.masked |= r == PARTIAL && !needles->list[i].with;
        if (r > 0 && (size_t)r > hit.len) {
            hit.needle = &needles->list[i];
            hit.len = (size_t)r;
        }
    }
    return hit;
}

static void put_mask(struct sb_buf *out, size_t n)
{
    static const char stars[] = "****************************************************************";
    for (size_t step; n; n -= step) {
        step = n < sizeof(stars) - 1 ? n : sizeof(stars) - 1;
        sb_buf_append(out, stars, step);
    }
}

static void put_hit(struct sb_buf *out, const struct hit *hit)
{
    if (hit->needle->with) {
        sb_buf_append(out, hit->needle->with, hit->needle->with_len);
    } else {
        put_mask(out, hit->len);
    }
}

static bool may_begin(const struct needles *needles, const char *p, size_t n)
{
    const unsigned char *byte = (const unsigned char *)p;
    return needles->first[byte[0]] &&
           (n == 1 || (needles->pair[byte[0]][byte[1] / 8] & 1 << byte[1] % 8));
}

bool needles_move(const struct needles *needles, struct sb_buf *in, bool ends, struct sb_buf *out)
{
    const char *data = in->len ? in->data : "";
    size_t n = in->len, at = 0, plain = 0; /* from `plain` to `at` nothing was found */
    bool found = false;
    while (at < n) {
        while (at < n && !may_begin(needles, data + at, n - at)) {
            at++;
        }
        if (at == n) {
            break;
        }
        struct hit hit = look(needles, data + at, n - at);
        bool cut_off = ends && hit.masked && !hit.needle && n - at >= TAIL_MIN;
        if (hit.partial && !ends) {
            break;
        }
        if (!hit.needle && !cut_off) {
            at++;
            continue;
        }
        found = true;
        sb_buf_append(out, data + plain, at - plain);
        if (cut_off) {
            put_mask(out, n - at);
            at = plain = n;
        } else {
            put_hit(out, &hit);
            at += hit.len;
            plain = at;
        }
    }
    sb_buf_append(out, data + plain, at - plain);
    sb_buf_consume(in, at);
    return found;
}

bool needles_replace(const struct needles *needles, struct sb_buf *text)
{
    struct sb_buf out;
    sb_buf_init(&out, text->max);
    struct sb_buf in = *text;
    bool found = needles_move(needles, &in, true, &out);
    sb_buf_wipe(&in);
    *text = out;
    return found;
}
