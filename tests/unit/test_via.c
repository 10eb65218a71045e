/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/via.h"
#include "proxy/via_codec.h"

static struct host host_of(const char *text)
{
    struct host host;
    assert_int_equal(host_parse(text, strlen(text), &host, NULL), 0);
    return host;
}

static struct via *via_of(const char *url, const char *no_proxy)
{
    struct via *via = NULL;
    json_t *json = json_pack("{s:s,s:s,s:s}", "url", url, "no_proxy", no_proxy, "from", "TEST");
    assert_int_equal(via_from_json(json, &via, NULL), 0);
    json_decref(json);
    return via;
}

static bool serves(const char *host_text)
{
    struct host host = host_of(host_text);
    struct via *via = via_of("http://u:p@proxy.example:3128", "corp.example,10.9.0.0/16");
    bool yes = via_serves(via, &host, 443);
    via_unref(via);
    return yes;
}

static void test_what_goes_there(void **state)
{
    (void)state;
    assert_true(serves("example.com"));
    assert_true(serves("203.0.114.9"));
    assert_true(serves("10.1.2.3"));
    assert_false(serves("10.9.2.3"));
    assert_false(serves("a.corp.example"));
    static const char *const near[] = {"localhost",       "a.localhost", "metadata.google.internal",
                                       "169.254.169.254", "127.0.0.1",   "::1",
                                       "fe80::1",         "0.0.0.0",     "224.0.0.1"};
    for (size_t i = 0; i < SB_ARRAY_LEN(near); i++) {
        assert_false(serves(near[i]));
    }
}

static void test_names_for_people_have_no_password(void **state)
{
    (void)state;
    struct via *via = via_of("http://us%65r:p%40ss@proxy.example:3128", "");
    assert_string_equal(via->name, "the upstream proxy http://proxy.example:3128 (TEST)");
    assert_string_equal(via->authorization, "Basic dXNlcjpwQHNz");
    via_unref(via_ref(via));
    via_unref(via);
}

static void test_connect(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, 1024);
    struct host v6 = host_of("2001:db8::1");
    via_write_connect(&out, &v6, 443, "Basic eA==");
    assert_string_equal(out.data, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"
                                  "Host: [2001:db8::1]:443\r\n"
                                  "Proxy-Authorization: Basic eA==\r\n\r\n");
    int status = 0;
    const char *text = "HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-more";
    assert_int_equal(via_read_connect(text, strlen(text), &status), strlen(text) - 12);
    assert_int_equal(status, 200);
    assert_int_equal(via_read_connect(text, 20, &status), 0);
    text = "HTTP/1.1 407 No\r\nContent-Length: 5\r\n\r\nhello";
    assert_int_equal(via_read_connect(text, strlen(text), &status), strlen(text) - 5);
    assert_int_equal(status, 407);
    text = "SSH-2.0-OpenSSH\r\n\r\n";
    assert_int_equal(via_read_connect(text, strlen(text), &status), -1);
    text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    assert_int_equal(via_read_connect(text, strlen(text), &status), -1);
}

static void test_socks_messages(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf out;
    sb_buf_init(&out, 1024);
    struct host v4 = host_of("192.0.2.7"), name = host_of("example.com");
    via_write_methods(&out, false);
    via_write_methods(&out, true);
    assert_memory_equal(out.data, "\5\1\0\5\2\0\2", 7);
    sb_buf_clear(&out);
    via_write_password(&out, "ab", "xyz");
    assert_int_equal(out.len, 8);
    assert_memory_equal(out.data, "\1\2ab\3xyz", 8);
    sb_buf_clear(&out);
    via_write_target(&out, &v4, 443);
    assert_int_equal(out.len, 10);
    assert_memory_equal(out.data, "\5\1\0\1\xc0\0\2\7\1\xbb", 10);
    sb_buf_clear(&out);
    via_write_target(&out, &name, 22);
    assert_int_equal(out.len, 18);
    assert_memory_equal(out.data, "\5\1\0\3\13example.com\0\26", 18);
}

static void test_socks_answers(void **state)
{
    (void)state;
    unsigned value = 0;
    bool accepted = true;
    assert_int_equal(via_read_method("\5\2", 2, &value), 2);
    assert_int_equal(value, VIA_SOCKS_PASSWORD);
    assert_int_equal(via_read_method("\5", 1, &value), 0);
    assert_int_equal(via_read_method("\4\0", 2, &value), -1);
    assert_int_equal(via_read_password("\1\1", 2, &accepted), 2);
    assert_false(accepted);
    assert_int_equal(via_read_target("\5\0\0\1\1\2\3\4\0\1x", 11, &value), 10);
    assert_int_equal(value, 0);
    assert_int_equal(via_read_target("\5\5\0\3\2ab\0\1", 9, &value), 9);
    assert_string_equal(via_socks_problem(value), "that host refuses the connection");
    assert_string_equal(via_socks_problem(200), "it refused");
    assert_int_equal(via_read_target("\5\0\0\4\1\2\3\4\0\1x", 11, &value), 0);
    assert_int_equal(via_read_target("\5\0\0\2\1\2\3\4\0\1x", 11, &value), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_there),
        cmocka_unit_test(test_names_for_people_have_no_password),
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_socks_messages),
        cmocka_unit_test(test_socks_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
