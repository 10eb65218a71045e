/* SPDX-License-Identifier: Apache-2.0
 * DNS queries and answers. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "proxy/dns_codec.h"

#define HEAD(extra) "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00" extra
#define NAME                                                                                       \
    "\x03"                                                                                         \
    "API"                                                                                          \
    "\x07"                                                                                         \
    "example"                                                                                      \
    "\x03"                                                                                         \
    "com"                                                                                          \
    "\x00"
#define A            "\x00\x01\x00\x01"
#define AAAA         "\x00\x1c\x00\x01"
#define OPT          "\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"
#define PARSE(bytes) dns_parse_query((const uint8_t *)(bytes), sizeof(bytes) - 1, &query)

static struct dns_query query;
static uint8_t out[DNS_MESSAGE_MAX];

static struct in6_addr address(const char *text)
{
    struct in6_addr a;
    assert_int_equal(inet_pton(AF_INET6, text, &a), 1);
    return a;
}

static void test_query(void **state)
{
    (void)state;
    assert_int_equal(PARSE(HEAD("\x00") NAME A), 0);
    assert_string_equal(query.name, "api.example.com");
    assert_int_equal(query.type, DNS_TYPE_A);
    assert_int_equal(dns_udp_cap(&query), 512);
    assert_int_equal(PARSE(HEAD("\x01") NAME AAAA OPT), 0);
    assert_true(query.edns);
    assert_int_equal(dns_udp_cap(&query), DNS_UDP_MAX);
}

static void test_bad_queries(void **state)
{
    (void)state;
    assert_int_equal(PARSE("\x12\x34"), -1);
    assert_int_equal(PARSE("\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00" NAME A), -1);
    assert_int_equal(PARSE("\x12\x34\x29\x00\x00\x01\x00\x00\x00\x00\x00\x00" NAME A), DNS_NOTIMP);
    assert_int_equal(PARSE("\x12\x34\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00" NAME A), DNS_FORMERR);
    assert_int_equal(PARSE(HEAD("\x00") "\xc0\x0c" A), DNS_FORMERR);
    assert_int_equal(PARSE(HEAD("\x00") NAME "\x00\x01"), DNS_FORMERR);
    assert_int_equal(PARSE(HEAD("\x00") NAME A "x"), DNS_FORMERR);
    assert_int_equal(PARSE(HEAD("\x02") NAME A OPT OPT), DNS_FORMERR);
    assert_int_equal(PARSE(HEAD("\x00") "\x03"
                                        "a.b"
                                        "\x00" A),
                     DNS_REFUSED);
    assert_int_equal(PARSE(HEAD("\x00") "\x03"
                                        "a\x00"
                                        "b"
                                        "\x00" A),
                     DNS_REFUSED);
    assert_int_equal(PARSE(HEAD("\x00") NAME "\x00\x01\x00\x03"), DNS_REFUSED);
    assert_int_equal(PARSE(HEAD("\x01") NAME A "\x00\x00\x29\x10\x00\x00\x01\x00\x00\x00\x00"),
                     DNS_BADVERS);
    size_t n = dns_format_answer(&query, DNS_BADVERS, NULL, 0, 0, out, sizeof(out));
    assert_int_equal(out[3] & 15, 0);
    assert_int_equal(out[n - 6], 1);
}

static void test_answers(void **state)
{
    (void)state;
    struct in6_addr both[] = {address("::ffff:192.0.2.7"), address("2001:db8::1")};
    assert_int_equal(PARSE(HEAD("\x00") NAME A), 0);
    size_t n = dns_format_answer(&query, DNS_NOERROR, both, 2, 60, out, 512);
    static const char want[] = "\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00" NAME A
                               "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07";
    assert_int_equal(n, sizeof(want) - 1);
    assert_memory_equal(out, want, n);
    assert_int_equal(PARSE(HEAD("\x01") NAME AAAA OPT), 0);
    n = dns_format_answer(&query, DNS_NOERROR, both, 1, 60, out, 512); /* no data */
    assert_int_equal(n, 12 + 21 + 11);
    assert_int_equal(out[7], 0);
    n = dns_format_answer_tcp(&query, DNS_NXDOMAIN, both, 2, 60, out, sizeof(out));
    assert_int_equal(out[0] << 8 | out[1], n - 2);
    assert_int_equal(out[5] & 15, DNS_NXDOMAIN);
    assert_int_equal(out[9], 0);
    size_t size;
    assert_int_equal(dns_tcp_message(out, n - 1, &size), 0);
    assert_int_equal(dns_tcp_message(out, n, &size), 1);
    assert_int_equal(dns_tcp_message((const uint8_t *)"\0\0", 2, &size), -1);
}

static void test_truncated(void **state)
{
    (void)state;
    struct in6_addr many[64];
    for (size_t i = 0; i < SB_ARRAY_LEN(many); i++) {
        many[i] = address("2001:db8::1");
    }
    assert_int_equal(PARSE(HEAD("\x00") NAME AAAA), 0);
    size_t n = dns_format_answer(&query, DNS_NOERROR, many, 64, 60, out, 512);
    assert_true(n <= 512 && n > 512 - 28);
    assert_int_equal(out[2] & 2, 2);
    assert_int_equal(dns_format_answer(&query, DNS_NOERROR, many, 64, 60, out, 20), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_bad_queries),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
