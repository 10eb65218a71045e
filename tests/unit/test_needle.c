/* SPDX-License-Identifier: Apache-2.0
 * The search for secrets and placeholders in streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/base64.h"
#include "base/err.h"
#include "proxy/needle.h"

#define SECRET "sk-Fq/7+X\"Z&~<0123>%4\\u"

/* What comes out of `text` when it goes in by pieces of `step` bytes. */
static char *run(const struct needles *needles, const char *text, size_t step)
{
    struct sb_buf in, out;
    size_t n = strlen(text);
    sb_buf_init(&in, 1 << 16);
    sb_buf_init(&out, 1 << 16);
    for (size_t at = 0; at < n; at += step) {
        sb_buf_append(&in, text + at, n - at < step ? n - at : step);
        needles_move(needles, &in, false, &out);
    }
    needles_move(needles, &in, true, &out);
    assert_int_equal(in.len, 0);
    assert_false(out.overflow);
    sb_buf_wipe(&in);
    return sb_buf_steal(&out);
}

static void expect(const struct needles *needles, const char *text, const char *want)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        SB_CLEANUP(free) char *got = run(needles, text, step);
        assert_string_equal(got, want);
    }
}

/* `form` somewhere within other text: its place holds stars, as many, and nothing else changed. */
static void expect_masked(const struct needles *needles, const char *form)
{
    static const char *const around[][2] = {
        {"", ""}, {"{\"a\": \"", "\"}"}, {"sk-sk-F", "sk-"}, {"%", "%"}, {"\\", "\\n"}};
    for (size_t i = 0; i < SB_ARRAY_LEN(around); i++) {
        SB_CLEANUP(free) char *text = sb_xasprintf("%s%s%s", around[i][0], form, around[i][1]);
        SB_CLEANUP(free) char *stars = sb_xcalloc(strlen(form) + 1, 1);
        memset(stars, '*', strlen(form));
        SB_CLEANUP(free) char *want = sb_xasprintf("%s%s%s", around[i][0], stars, around[i][1]);
        expect(needles, text, want);
    }
}

static void test_forms(void **state)
{
    (void)state;
    struct needles *needles = needles_new();
    needles_add_secret(needles, SECRET, strlen(SECRET));
    static const char *const forms[] = {
        SECRET,
        /* JSON: what must be escaped, what may be, and everything */
        "sk-Fq/7+X\\\"Z&~<0123>%4\\\\u",
        "sk-Fq\\/7+X\\\"Z\\u0026~\\u003c0123\\u003E%4\\\\u",
        "\\u0073\\u006b\\u002d\\u0046\\u0071\\u002f\\u0037\\u002b\\u0058\\u0022\\u005a\\u0026\\u007"
        "e"
        "\\u003c\\u0030\\u0031\\u0032\\u0033\\u003e\\u0025\\u0034\\u005c\\u0075",
        /* URLs */
        "sk-Fq%2F7%2BX%22Z%26%7E%3C0123%3E%254%5Cu",
        "sk-Fq%2f7%2bX%22Z%26~%3c0123%3e%254%5cu",
        "sk-Fq/7%2BX%22Z&~%3C0123%3E%254%5Cu",
        /* HTML */
        "sk-Fq/7+X&quot;Z&amp;~&lt;0123&gt;%4\\u",
        "sk-Fq&#x2F;7&#43;X&#34;Z&#38;~&#60;0123&#x3e;%4\\u",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(forms); i++) {
        expect_masked(needles, forms[i]);
    }
    needles_unref(needles);
}

static void swap_alphabet(char *text)
{
    for (; *text; text++) {
        *text = (char)(*text == '+' ? '-' : *text == '/' ? '_' : *text);
    }
}

/* Does a stream in pieces of any size keep every run of the secret's own characters? */
static void expect_no_base64(const struct needles *needles, const char *text, size_t len,
                             size_t start, size_t end)
{
    for (size_t step = 1; step < 40; step++) {
        SB_CLEANUP(free) char *got = run(needles, text, step);
        assert_int_equal(strlen(got), len);
        for (size_t i = 0; i < len; i++) {
            bool inside = i >= start && i < end;
            if (inside ? got[i] != '*' : got[i] != text[i]) {
                fail_msg("at %zu of '%s': '%s'", i, text, got);
            }
        }
    }
}

static void test_base64(void **state)
{
    (void)state;
    struct needles *needles = needles_new();
    needles_add_secret(needles, SECRET, strlen(SECRET));
    size_t n = strlen(SECRET);
    for (size_t before = 0; before < 8; before++) {
        for (size_t after = 0; after < 4; after++) {
            struct sb_buf plain, text;
            sb_buf_init(&plain, 256);
            sb_buf_init(&text, 512);
            sb_buf_append(&plain, "user:xyz", before);
            sb_buf_puts(&plain, SECRET);
            sb_buf_append(&plain, "\r\n.", after);
            sb_base64_encode(&text, plain.data, plain.len);
            /* The characters that hold bits of the secret alone. */
            size_t start = (before * 8 + 5) / 6, end = (before + n) * 8 / 6;
            expect_no_base64(needles, text.data, text.len, start, end);
            swap_alphabet(text.data);
            expect_no_base64(needles, text.data, text.len, start, end);
            sb_buf_done(&plain);
            sb_buf_done(&text);
        }
    }
    /* In lines, and escaped in JSON and URLs. */
    struct sb_buf text;
    sb_buf_init(&text, 512);
    sb_base64_encode(&text, SECRET, n);
    text.data[n * 8 / 6] = '\0';
    static const char *const breaks[] = {"\r\n", "\n", "\\n", "\\r\\n"};
    for (size_t i = 0; i < SB_ARRAY_LEN(breaks); i++) {
        SB_CLEANUP(free)
        char *lines = sb_xasprintf("%.7s%s%s", text.data, breaks[i], text.data + 7);
        expect_masked(needles, lines);
        /* A break among the first characters leaves only these. */
        SB_CLEANUP(free)
        char *early = sb_xasprintf("%.2s%s%s", text.data, breaks[i], text.data + 2);
        SB_CLEANUP(free) char *got = run(needles, early, 3);
        assert_null(strstr(got, text.data + 3));
    }
    SB_CLEANUP(free) char *line = sb_xasprintf("event: %.3s\n", text.data);
    struct sb_buf in, out;
    sb_buf_init(&in, 100);
    sb_buf_init(&out, 100);
    sb_buf_puts(&in, line);
    needles_move(needles, &in, false, &out);
    assert_int_equal(in.len, 0); /* a line goes on at once */
    sb_buf_done(&in);
    sb_buf_done(&out);
    sb_buf_done(&text);
    needles_unref(needles);
}

/* A stream that ends within a secret has shown its beginning. */
static void test_cut_off(void **state)
{
    (void)state;
    struct needles *needles = needles_new();
    needles_add_secret(needles, SECRET, strlen(SECRET));
    expect(needles, "a sk-Fq/7", "a *******");
    expect(needles, "a sk-Fq", "a sk-Fq"); /* could be anything */
    expect(needles, "a sk-Fq/7.", "a sk-Fq/7.");
    struct sb_buf in, out;
    sb_buf_init(&in, 100);
    sb_buf_init(&out, 100);
    sb_buf_puts(&in, "a sk-Fq/7");
    needles_move(needles, &in, false, &out);
    assert_string_equal(out.data, "a ");
    assert_string_equal(in.data, "sk-Fq/7");
    sb_buf_done(&in);
    sb_buf_done(&out);
    needles_unref(needles);
}

static void test_replacing(void **state)
{
    (void)state;
    struct needles *needles = needles_new();
    needles_add(needles, NEEDLE_EXACT, "ph-1", 4, "long value", 10);
    needles_add(needles, NEEDLE_EXACT, "ph-12", 5, "", 0);
    expect(needles, "ph-1", "long value");
    expect(needles, "ph-12ph-1ph-", "long valueph-");
    expect(needles, "pph-1,PH-1,ph%2d1", "plong value,PH-1,ph%2d1");
    struct sb_buf text;
    sb_buf_init(&text, 30);
    sb_buf_puts(&text, "ph-1 ph-1");
    assert_true(needles_replace(needles, &text));
    assert_string_equal(text.data, "long value long value");
    sb_buf_clear(&text);
    sb_buf_puts(&text, "nothing");
    assert_false(needles_replace(needles, &text));
    sb_buf_clear(&text);
    sb_buf_puts(&text, "ph-1ph-1ph-1ph-1");
    assert_true(needles_replace(needles, &text) && text.overflow);
    sb_buf_done(&text);
    needles_unref(needles);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_replacing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
