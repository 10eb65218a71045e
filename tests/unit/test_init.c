/* SPDX-License-Identifier: Apache-2.0
 * Users of the sandbox.  The server itself is tested by tests/e2e/test_init.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "init/account.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
                             "broken line\n"
                             "::::\n"
                             "nouid:x:abc:1:x:/:/bin/sh\n"
                             "big:x:4294967295:1:x:/:/bin/sh\n"
                             "agent:x:1000:1001:Agent,,,:/home/agent:/bin/zsh\n"
                             "bare:x:5:5::\n"
                             "last:x:7:7:l:/l:/bin/l";
static const char group[] = "root:x:0:\n"
                            "agent:x:1001:\n"
                            "sudo:x:27:bob,agent,eve\n"
                            "docker:x:998:agent\n"
                            "notus:x:999:agents,agen\n"
                            "short:x\n";

static void test_name(void **state)
{
    (void)state;
    SB_CLEANUP(account) struct account a = {0};
    assert_int_equal(account_parse(passwd, group, "agent", &a, NULL), 0);
    assert_int_equal(a.uid, 1000);
    assert_int_equal(a.gid, 1001);
    assert_string_equal(a.home, "/home/agent");
    assert_string_equal(a.shell, "/bin/zsh");
    assert_int_equal(a.ngroups, 3);
    assert_int_equal(a.groups[0], 1001);
    assert_int_equal(a.groups[1], 27);
    assert_int_equal(a.groups[2], 998);
}

static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *home;
        unsigned uid, gid;
    } cases[] = {
        {"0", "root", "/root", 0, 0},
        {"1000", "agent", "/home/agent", 1000, 1001},
        {"4242", "4242", "/", 4242, 4242},
        {"4242:5", "4242", "/", 4242, 5},
        {"agent:sudo", "agent", "/home/agent", 1000, 27},
        {"bare", "bare", "/", 5, 5},
        {"last", "last", "/l", 7, 7},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(account) struct account a = {0};
        assert_int_equal(account_parse(passwd, group, cases[i].text, &a, NULL), 0);
        assert_string_equal(a.name, cases[i].name);
        assert_string_equal(a.home, cases[i].home);
        assert_int_equal(a.uid, cases[i].uid);
        assert_int_equal(a.gid, cases[i].gid);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"",       "nobody",      "big",  "nouid",  ":1",
                                        "agent:", "1:who",       "-1",   "1 2",    "4294967295",
                                        "::",     "99999999999", "agen", "agent ", "broken line"};
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        struct account a = {0};
        struct sb_err *err = NULL;
        assert_int_equal(account_parse(passwd, group, cases[i], &a, &err), SB_ENOTFOUND);
        assert_non_null(strstr(err->message, "of the sandbox"));
        assert_null(a.name);
        sb_err_free(err);
    }
}

static void test_empty_files(void **state)
{
    (void)state;
    SB_CLEANUP(account) struct account a = {0};
    assert_int_equal(account_parse("", "", "0", &a, NULL), 0);
    assert_string_equal(a.home, "/root");
    assert_int_equal(a.ngroups, 1);
}

static void test_groups_are_bounded(void **state)
{
    (void)state;
    char text[200 * 24] = "";
    size_t len = 0;
    for (int i = 0; i < 200; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "g%d:x:%d:root\n", i, 100 + i);
    }
    SB_CLEANUP(account) struct account a = {0};
    assert_int_equal(account_parse(passwd, text, "root", &a, NULL), 0);
    assert_int_equal(a.ngroups, ACCOUNT_GROUPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_empty_files),
        cmocka_unit_test(test_groups_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
