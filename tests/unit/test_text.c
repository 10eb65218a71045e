/* SPDX-License-Identifier: Apache-2.0
 * What may be shown of a text, and what becomes a '?'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/text.h"

static void check(const char *text, const char *keep, const char *expected)
{
    SB_CLEANUP(free) char *shown = sb_printable(text, keep);
    assert_string_equal(shown, expected);
}

static void test_plain_text_stays(void **state)
{
    (void)state;
    check("", "", "");
    check("plain ~ text", "", "plain ~ text");
    check("Käse, 日本語, 🦊", "", "Käse, 日本語, 🦊");
}

static void test_control_characters(void **state)
{
    (void)state;
    check("a\x1b[2Jb\x7f\a", "", "a?[2Jb??");
    check("a\tb\nc\r", "\n\t", "a\tb\nc?");
    check("a\nb", "", "a?b");
    check("\xc2\x9b"
          "2J",
          "", "?2J"); /* U+009B, the eight-bit escape of terminals */
    check("\xe2\x80\xae"
          "gnp.exe\xe2\x81\xa6",
          "", "?gnp.exe?"); /* U+202E reverses what follows, U+2066 isolates it */
}

static void test_what_is_no_utf8(void **state)
{
    (void)state;
    check("\x9b"
          "2J",
          "", "?2J");
    check("a\xff\xfe", "", "a??");
    check("cut \xe6\x97", "", "cut ??");
    check("\xc0\x9b", "", "??");           /* longer than needed: ESC in disguise */
    check("\xed\xa0\x80", "", "???");      /* half of a pair of UTF-16 */
    check("\xf4\x90\x80\x80", "", "????"); /* beyond U+10FFFF */
}

static void test_columns(void **state)
{
    (void)state;
    assert_int_equal(sb_columns(""), 0);
    assert_int_equal(sb_columns("plain"), 5);
    assert_int_equal(sb_columns("Käse"), 4);
    assert_int_equal(sb_columns("Ka\xcc\x88se"), 4); /* a with a combining diaeresis */
    assert_int_equal(sb_columns("日本語"), 6);
    assert_int_equal(sb_columns("한글 ｗ"), 7);
    assert_int_equal(sb_columns("🦊"), 2);
    assert_int_equal(sb_columns("?\xff"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_text_stays),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_what_is_no_utf8),
        cmocka_unit_test(test_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
