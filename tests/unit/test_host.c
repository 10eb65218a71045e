/* SPDX-License-Identifier: Apache-2.0
 * Canonical hosts: what must be one host, and what must be none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "policy/host.h"

static void test_canonical_form(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"Example.COM", "example.com"},
        {"example.com.", "example.com"},
        {"_dmarc.example.com", "_dmarc.example.com"},
        {"localhost", "localhost"},
        {"b\xc3\xbc\x63her.example", "xn--bcher-kva.example"},
        {"fa\xc3\x9f.example", "xn--fa-hia.example"}, /* non-transitional */
        {"g\xd1\x96thub.com", "xn--gthub-n2e.com"},   /* Cyrillic i is another name */
        {"a\xe3\x80\x82"
         "example",
         "a.example"},                                  /* U+3002 */
        {"git\xe2\x80\x8bhub.com", "github.com"},       /* zero-width space */
        {"\xef\xbc\xa7ithub.com", "github.com"},        /* full-width G */
        {"\xef\xbc\x91\xef\xbc\x90.0.0.1", "10.0.0.1"}, /* full-width digits */
        {"10.0.0.1", "10.0.0.1"},
        {"::FFFF:10.0.0.1", "10.0.0.1"},
        {"[2001:DB8:0::1]", "2001:db8::1"},
        {"1.2.3.4.example", "1.2.3.4.example"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct host host;
        SB_CLEANUP(err) struct sb_err *err = NULL;
        if (host_parse(cases[i][0], strlen(cases[i][0]), &host, &err) < 0) {
            fail_msg("'%s' refused: %s", cases[i][0], err->message);
        }
        assert_string_equal(host.text, cases[i][1]);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        ".",
        "a..b",
        ".a",
        "a b",
        "a\tb",
        "a\nb",
        "a\\b",
        "a%2eb",
        "u@a",
        "a/b",
        "a?b",
        "a#b",
        "0x7f000001",
        "2130706433",
        "127.1",
        "010.0.0.1",
        "0",
        "1.2.3.4.5",
        "a.0x1",
        "127.0.0.0x1",
        "[::1",
        "::1]",
        "[]",
        "[1.2.3.4]",
        "fe80::1%eth0",
        "-a.com",
        "a*b",
        "a\377b",
        "xn--a\xcc\x80",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.com",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct host host = {.text = "untouched"};
        if (host_parse(cases[i], strlen(cases[i]), &host, NULL) == 0) {
            fail_msg("'%s' accepted as '%s'", cases[i], host.text);
        }
        assert_string_equal(host.text, "untouched");
    }
    struct host host;
    assert_true(host_parse("a\0b", 3, &host, NULL) < 0);
    assert_true(host_parse("a\0", 2, &host, NULL) < 0);
}

static void test_length_limits(void **state)
{
    (void)state;
    char name[300];
    memset(name, 'a', sizeof(name));
    for (size_t i = 49; i < sizeof(name); i += 50) {
        name[i] = '.';
    }
    struct host host;
    assert_int_equal(host_parse(name, 253, &host, NULL), 0);
    assert_true(host_parse(name, 254, &host, NULL) < 0);
}

static void test_authority(void **state)
{
    (void)state;
    struct host host;
    uint16_t port;
    assert_int_equal(host_parse_authority("a.com:80", 8, 443, &host, &port, NULL), 0);
    assert_int_equal(port, 80);
    assert_int_equal(host_parse_authority("a.com", 5, 443, &host, &port, NULL), 0);
    assert_int_equal(port, 443);
    assert_int_equal(host_parse_authority("[::1]:22", 8, 443, &host, &port, NULL), 0);
    assert_string_equal(host.text, "::1");
    assert_int_equal(host_parse_authority("2001:db8::1", 11, 443, &host, &port, NULL), 0);
    assert_int_equal(port, 443);
    static const char *const bad[] = {"a:",   "a:0", "a:65536", "a:+1",  "a:080",
                                      "a:1x", ":80", "[::1]x",  "[::1]:"};
    for (size_t i = 0; i < SB_ARRAY_LEN(bad); i++) {
        assert_true(host_parse_authority(bad[i], strlen(bad[i]), 443, &host, &port, NULL) < 0);
    }
    SB_CLEANUP(err) struct sb_err *err = NULL;
    assert_true(host_parse_authority("a.com:99999", 11, 1, &host, &port, &err) < 0);
    assert_int_equal(err->place.column, 7);
}

static void test_address_classes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum address_class class;
    } cases[] = {
        {"8.8.8.8", ADDRESS_PUBLIC},
        {"127.9.9.9", ADDRESS_LOOPBACK},
        {"::1", ADDRESS_LOOPBACK},
        {"10.0.0.1", ADDRESS_PRIVATE},
        {"172.31.0.1", ADDRESS_PRIVATE},
        {"172.32.0.1", ADDRESS_PUBLIC},
        {"100.64.0.1", ADDRESS_PRIVATE},
        {"fd00:ec2::254", ADDRESS_PRIVATE},
        {"169.254.169.254", ADDRESS_LINK_LOCAL},
        {"fe80::1", ADDRESS_LINK_LOCAL},
        {"0.0.0.0", ADDRESS_OTHER},
        {"::", ADDRESS_OTHER},
        {"255.255.255.255", ADDRESS_OTHER},
        {"224.0.0.1", ADDRESS_OTHER},
        {"198.18.0.1", ADDRESS_OTHER},
        {"2606:4700::1", ADDRESS_PUBLIC},
        {"::ffff:127.0.0.1", ADDRESS_LOOPBACK},
        {"64:ff9b::a9fe:a9fe", ADDRESS_LINK_LOCAL}, /* NAT64 of 169.254.169.254 */
        {"2002:7f00:1::", ADDRESS_LOOPBACK},        /* 6to4 of 127.0.0.1 */
        {"::7f00:1", ADDRESS_OTHER},                /* IPv4-compatible */
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct host host;
        assert_int_equal(host_parse(cases[i].text, strlen(cases[i].text), &host, NULL), 0);
        if (address_classify(&host.address) != cases[i].class) {
            fail_msg("%s is classified wrongly", cases[i].text);
        }
    }
}

static void test_names_that_are_not_the_worlds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool near, private_name;
    } cases[] = {
        {"localhost", true, true},
        {"a.b.localhost", true, false},
        {"metadata.google.internal", true, true},
        {"notlocalhost", false, true},
        {"wiki", false, true},
        {"wiki.internal", false, true},
        {"router.home.arpa", false, true},
        {"a.corp", false, true},
        {"corp.example", false, false},
        {"internal.example.com", false, false},
        {"example.com", false, false},
        {"10.1.2.3", false, false},
        {"::1", false, false},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct host host;
        assert_int_equal(host_parse(cases[i].text, strlen(cases[i].text), &host, NULL), 0);
        assert_int_equal(host_is_near(&host), cases[i].near);
        assert_int_equal(host_is_private_name(&host), cases[i].private_name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_form),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_length_limits),
        cmocka_unit_test(test_authority),
        cmocka_unit_test(test_address_classes),
        cmocka_unit_test(test_names_that_are_not_the_worlds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
