/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/msg.h"
#include "settings/no_proxy.h"
#include "settings/proxy_url.h"
#include "settings/store.h"
#include "settings/upstream_choice.h"

/* ---- addresses of proxies ---- */

static void check_url(const char *text, enum proxy_scheme scheme, const char *shown,
                      const char *username, const char *password)
{
    SB_CLEANUP(proxy_url) struct proxy_url url = {0};
    assert_int_equal(proxy_url_parse(text, &url, NULL), 0);
    SB_CLEANUP(free) char *is_shown = proxy_url_shown(&url);
    assert_int_equal(url.scheme, scheme);
    assert_string_equal(is_shown, shown);
    assert_string_equal(url.username ? url.username : "-", username ? username : "-");
    assert_string_equal(url.password ? url.password : "-", password ? password : "-");
}

static void test_addresses(void **state)
{
    (void)state;
    check_url("http://proxy.example:3128", PROXY_HTTP, "http://proxy.example:3128", NULL, NULL);
    check_url("proxy.example:3128", PROXY_HTTP, "http://proxy.example:3128", NULL, NULL);
    check_url("HTTPS://Proxy.Example/", PROXY_HTTPS, "https://proxy.example:443", NULL, NULL);
    check_url("http://proxy", PROXY_HTTP, "http://proxy:80", NULL, NULL);
    check_url("socks5://10.0.0.1", PROXY_SOCKS5, "socks5://10.0.0.1:1080", NULL, NULL);
    check_url("socks5h://[2001:db8::1]:9", PROXY_SOCKS5H, "socks5h://[2001:db8::1]:9", NULL, NULL);
    check_url("http://u:p@h:1", PROXY_HTTP, "http://h:1", "u", "p");
    check_url("u:p@h:1", PROXY_HTTP, "http://h:1", "u", "p");
    check_url("http://u@h:1", PROXY_HTTP, "http://h:1", "u", NULL);
    check_url("http://u%40corp:p%3a%25%2F@h:1", PROXY_HTTP, "http://h:1", "u@corp", "p:%/");
    check_url("http://u:p@ss/w#rd@h:1", PROXY_HTTP, "http://h:1", "u", "p@ss/w#rd");
    check_url("direct", PROXY_DIRECT, "direct", NULL, NULL);
}

static void check_fault(const char *text, const char *message, const char *excerpt, size_t column)
{
    SB_CLEANUP(proxy_url) struct proxy_url url = {0};
    SB_CLEANUP(err) struct sb_err *err = NULL;
    assert_int_equal(proxy_url_parse(text, &url, &err), SB_EUSAGE);
    assert_non_null(strstr(err->message, message));
    assert_string_equal(err->place.excerpt, excerpt);
    assert_int_equal(err->place.column, column);
    assert_non_null(err->hint);
    assert_null(strstr(err->message, "secret"));
}

static void test_bad_addresses(void **state)
{
    (void)state;
    check_fault("ftp://h", "unknown kind", "ftp://h", 1);
    check_fault("pac+http://h", "unknown kind", "pac+http://h", 1);
    check_fault("http://", "host is missing", "http://", 8);
    check_fault("", "host is missing", "", 1);
    check_fault("http://h/path", "no path", "http://h/path", 9);
    check_fault("http://h:0", "port", "http://h:0", 8);
    check_fault("http://u:secret@h/p", "no path", "http://u:***@h/p", 15);
    check_fault("http://u:secret@ho st", "", "http://u:***@ho st", 14);
    check_fault("ftp://u:secret@h", "unknown kind", "ftp://u:***@h", 1);
    /* The host was forgotten: what looks like a port is none. */
    check_fault("http://user:secret", "no port", "http://user:***", 8);
    check_fault("http://:secret@h", "user name", "http://:***@h", 8);
    check_fault("http://u%3ax:secret@h", "user name", "http://u%3ax:***@h", 8);
    check_fault("http://u:secret%0a@h", "user name", "http://u:***@h", 8);
    check_fault("http://u:secret%4@h", "user name", "http://u:***@h", 8);
}

/* ---- hosts without one ---- */

static bool covers(const char *list_text, const char *host_text, uint16_t port)
{
    struct host host;
    assert_int_equal(host_parse(host_text, strlen(host_text), &host, NULL), 0);
    struct no_proxy *list = no_proxy_new(list_text, NULL);
    bool covered = no_proxy_covers(list, &host, port);
    no_proxy_free(list);
    return covered;
}

static void test_names(void **state)
{
    (void)state;
    const char *const forms[] = {"corp.example", ".corp.example", "*.corp.example",
                                 "x.example, Corp.Example."};
    for (size_t i = 0; i < SB_ARRAY_LEN(forms); i++) {
        assert_true(covers(forms[i], "corp.example", 443));
        assert_true(covers(forms[i], "a.b.corp.example", 443));
        assert_false(covers(forms[i], "mycorp.example", 443));
        assert_false(covers(forms[i], "example", 443));
        assert_false(covers(forms[i], "corp.example.com", 443));
    }
    assert_true(covers("host.example:8443", "host.example", 8443));
    assert_false(covers("host.example:8443", "host.example", 443));
    assert_true(covers("a b\tc,d", "c", 1));
    assert_true(covers("*", "any.example", 1));
    assert_false(covers("", "any.example", 1));
}

static void test_networks(void **state)
{
    (void)state;
    assert_true(covers("10.0.0.0/8", "10.255.1.2", 1));
    assert_false(covers("10.0.0.0/8", "11.0.0.1", 1));
    assert_true(covers("192.168.1.64/26", "192.168.1.127", 1));
    assert_false(covers("192.168.1.64/26", "192.168.1.128", 1));
    assert_true(covers("0.0.0.0/0", "203.0.113.9", 1));
    assert_false(covers("0.0.0.0/0", "2001:db8::1", 1));
    assert_true(covers("2001:db8::/33", "2001:db8:7fff::1", 1));
    assert_false(covers("2001:db8::/33", "2001:db8:8000::1", 1));
    assert_true(covers("10.1.2.3", "10.1.2.3", 1));
    assert_true(covers("10.1.2.3:80", "10.1.2.3", 80));
    assert_false(covers("10.1.2.3:80", "10.1.2.3", 81));
    assert_true(covers("::1", "::1", 1));
    assert_true(covers("[2001:db8::1]:443", "2001:db8::1", 443));
    assert_false(covers("[2001:db8::1]:443", "2001:db8::1", 80));
    /* A name is compared as a name, whatever address it has. */
    assert_false(covers("10.0.0.0/8", "ten.example", 1));
}

static void test_bad_list(void **state)
{
    (void)state;
    static const char *const words[] = {"<local>",   "10.0.0.0/33",  "10.0.0.0/", "10.0.0.0/8x",
                                        "::1/129",   "host:0",       "host:x",    "a..b",
                                        ".10.0.0.1", "10.0.0.0/0008"};
    for (size_t i = 0; i < SB_ARRAY_LEN(words); i++) {
        SB_CLEANUP(err) struct sb_err *err = NULL;
        SB_CLEANUP(free) char *text = sb_xasprintf("good.example, %s,last.example", words[i]);
        no_proxy_free(no_proxy_new(text, &err));
        assert_non_null(err);
        assert_int_equal(err->place.column, 15);
        assert_int_equal(err->place.length, strlen(words[i]));
        /* In a variable it is passed over, as by other programs; the others hold. */
        assert_true(covers(text, "good.example", 1));
        assert_true(covers(text, "last.example", 1));
        assert_false(covers(text, "other.example", 1));
    }
}

/* ---- which one holds ---- */

static void check_choice(json_t *settings, json_t *environment, const char *url, const char *from,
                         const char *no_proxy)
{
    SB_CLEANUP(json) json_t *choice = NULL;
    assert_int_equal(upstream_choose(settings, environment, &choice, NULL), 0);
    if (url) {
        assert_string_equal(sb_json_str(choice, "url"), url);
        assert_string_equal(sb_json_str(choice, "from"), from);
        assert_string_equal(sb_json_str(choice, "no_proxy"), no_proxy);
    } else {
        assert_true(json_is_null(choice));
    }
    json_decref(settings);
    json_decref(environment);
}

static void test_order(void **state)
{
    (void)state;
    check_choice(json_object(), json_object(), NULL, NULL, NULL);
    check_choice(json_object(), json_pack("{s:s,s:s}", "http_proxy", "b:1", "ALL_PROXY", "c:1"),
                 "b:1", "http_proxy", "");
    check_choice(json_object(), json_pack("{s:s,s:s}", "HTTPS_PROXY", "a:1", "HTTP_PROXY", "b:1"),
                 "a:1", "HTTPS_PROXY", "");
    check_choice(json_pack("{s:s}", SETTING_UPSTREAM, "s:1"),
                 json_pack("{s:s,s:s}", "HTTPS_PROXY", "a:1", "no_proxy", "n"), "s:1",
                 SETTING_UPSTREAM, "n");
    check_choice(json_pack("{s:s,s:s}", SETTING_UPSTREAM, "s:1", SETTING_NO_PROXY, "m"),
                 json_pack("{s:s,s:s}", "SBX_PROXY", "o:1", "NO_PROXY", "n"), "o:1", "SBX_PROXY",
                 "m");
    check_choice(json_pack("{s:s}", SETTING_UPSTREAM, "s:1"),
                 json_pack("{s:s}", "SBX_PROXY", "direct"), NULL, NULL, NULL);
    check_choice(json_pack("{s:s}", SETTING_UPSTREAM, "direct"),
                 json_pack("{s:s}", "HTTPS_PROXY", "a:1"), NULL, NULL, NULL);
}

static void test_bad_variable_is_named(void **state)
{
    (void)state;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    SB_CLEANUP(json) json_t *settings = json_object();
    SB_CLEANUP(json) json_t *environment = json_pack("{s:s}", "https_proxy", "gopher://u:secret@h");
    SB_CLEANUP(json) json_t *choice = NULL;
    assert_int_equal(upstream_choose(settings, environment, &choice, &err), SB_EUSAGE);
    assert_non_null(strstr(err->message, "https_proxy"));
    assert_null(strstr(err->message, "secret"));
    assert_null(strstr(err->place.excerpt, "secret"));
    const char *from = NULL;
    SB_CLEANUP(free) char *shown = upstream_shown(settings, environment, &from);
    assert_string_equal(shown, "gopher://u:***@h");
    assert_string_equal(from, "https_proxy");
}

/* ---- the store ---- */

static void test_store(void **state)
{
    (void)state;
    char home[] = "/tmp/sbx-settings-XXXXXX";
    assert_non_null(mkdtemp(home));
    setenv("SBX_HOME", home, 1);
    bool was_set = true;
    SB_CLEANUP(json) json_t *value = json_string("x");
    SB_CLEANUP(json) json_t *all = NULL;
    assert_int_equal(settings_change("a.b", NULL, &was_set, NULL), 0);
    assert_false(was_set);
    assert_int_equal(settings_change("a.b", value, &was_set, NULL), 0);
    assert_false(was_set);
    assert_int_equal(settings_load(&all, NULL), 0);
    assert_string_equal(sb_json_str(all, "a.b"), "x");
    assert_int_equal(settings_change("a.b", NULL, &was_set, NULL), 0);
    assert_true(was_set);
    SB_CLEANUP(json) json_t *later = NULL;
    assert_int_equal(settings_load(&later, NULL), 0);
    assert_int_equal(json_object_size(later), 0);
    assert_int_equal(sb_remove_tree(AT_FDCWD, home), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_bad_list),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bad_variable_is_named),
        cmocka_unit_test(test_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
