/* SPDX-License-Identifier: Apache-2.0
 * Rules files: what commands keep, where errors are, and that writers lose nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/msg.h"
#include "policy/store.h"

static char home[] = "/tmp/sbx-test-XXXXXX";

static int setup_home(void **state)
{
    (void)state;
    return mkdtemp(home) && setenv("SBX_HOME", home, 1) == 0 ? 0 : -1;
}

static int teardown_home(void **state)
{
    (void)state;
    return sb_remove_tree(AT_FDCWD, home);
}

static char *rules_path(const char *name)
{
    return sb_xasprintf("%s/config/policy/%s", home, name);
}

static void put_file(const char *name, const char *text)
{
    SB_CLEANUP(free) char *path = rules_path(name);
    SB_CLEANUP(free) char *dir = rules_path("sandbox");
    assert_int_equal(sb_mkdir_p(AT_FDCWD, dir, 0700), 0);
    assert_int_equal(sb_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0600, NULL), 0);
}

static char *get_file(const char *name)
{
    SB_CLEANUP(free) char *path = rules_path(name);
    SB_CLEANUP(buf) struct sb_buf buf;
    sb_buf_init(&buf, 1 << 20);
    assert_int_equal(sb_read_file(AT_FDCWD, path, &buf, NULL), 0);
    return sb_buf_steal(&buf);
}

static void test_presets(void **state)
{
    (void)state;
    static const char *const names[] = {"allow-all", "balanced", "deny-all"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        SB_CLEANUP(json) json_t *rules = json_array();
        SB_CLEANUP(policy) struct policy *policy = NULL;
        SB_CLEANUP(err) struct sb_err *err = NULL;
        bool defaulted = true;
        assert_int_equal(policy_store_set_preset(names[i], NULL), 0);
        if (policy_store_rules(NULL, rules, &defaulted, &err) < 0) {
            fail_msg("%s:%zu: %s", err->place.file, err->place.line, err->message);
        }
        assert_false(defaulted);
        assert_int_equal(policy_from_json(rules, &policy, NULL), 0);
        assert_int_equal(policy_count(policy), json_array_size(rules)); /* no duplicates */
    }
    assert_int_equal(policy_store_set_preset("none", NULL), SB_EUSAGE);
}

static void test_edits_keep_the_rest(void **state)
{
    (void)state;
    put_file("global.rules", "# mine\n  allow a.com  # no comment here\n");
    SB_CLEANUP(json) json_t *rules = json_array();
    SB_CLEANUP(err) struct sb_err *err = NULL;
    assert_true(policy_store_rules(NULL, rules, NULL, &err) < 0);
    assert_non_null(strstr(err->place.file, "global.rules"));
    assert_int_equal(err->place.line, 2);
    assert_int_equal(err->place.column, 14);
    assert_int_equal(json_array_size(rules), 0);

    put_file("global.rules", "# mine\n\n  allow A.com\npreset balanced\ndeny b.com");
    SB_CLEANUP(free) char *id = NULL, *again = NULL;
    assert_int_equal(policy_store_add(NULL, true, "C.com:443", &id, NULL), 0);
    assert_int_equal(policy_store_add(NULL, true, "c.com:443", &again, NULL), 0);
    assert_string_equal(id, again);
    assert_int_equal(policy_store_set_preset("deny-all", NULL), 0);
    SB_CLEANUP(free) char *text = get_file("global.rules");
    assert_string_equal(text,
                        "# mine\n\n  allow A.com\npreset deny-all\ndeny b.com\nallow c.com:443\n");

    size_t removed = 0;
    assert_int_equal(policy_store_remove(NULL, id, &removed, NULL), 0);
    assert_int_equal(removed, 1);
    assert_int_equal(policy_store_remove(NULL, "a.COM", &removed, NULL), 0);
    assert_int_equal(removed, 1);
    assert_int_equal(policy_store_remove(NULL, "nothing.com", &removed, NULL), 0);
    assert_int_equal(removed, 0);
    SB_CLEANUP(free) char *after = get_file("global.rules");
    assert_string_equal(after, "# mine\n\npreset deny-all\ndeny b.com\n");
}

static void test_sandbox_rules(void **state)
{
    (void)state;
    put_file("global.rules", "preset deny-all\nallow g.com\n");
    assert_int_equal(policy_store_add("global", true, "s.com", NULL, NULL), 0);
    SB_CLEANUP(json) json_t *rules = json_array();
    assert_int_equal(policy_store_rules("global", rules, NULL, NULL), 0);
    assert_int_equal(json_array_size(rules), 2);
    assert_string_equal(sb_json_str(json_array_get(rules, 0), "origin"), "global");
    assert_string_equal(sb_json_str(json_array_get(rules, 1), "origin"), "sandbox");
    assert_int_equal(policy_store_forget("global", NULL), 0);
    assert_int_equal(policy_store_forget("global", NULL), 0);
    json_array_clear(rules);
    assert_int_equal(policy_store_rules("global", rules, NULL, NULL), 0);
    assert_int_equal(json_array_size(rules), 1);
    assert_true(policy_store_add("../x", true, "s.com", NULL, NULL) < 0);
    put_file("sandbox/p.rules", "preset allow-all\n");
    assert_true(policy_store_rules("p", rules, NULL, NULL) < 0);
}

static void test_writers_lose_nothing(void **state)
{
    (void)state;
    enum { WRITERS = 8, EACH = 25 };
    put_file("global.rules", "preset deny-all\n");
    for (int w = 0; w < WRITERS; w++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            int bad = 0;
            for (int i = 0; i < EACH; i++) {
                char name[64];
                snprintf(name, sizeof(name), "h%d-%d.example", w, i);
                bad |= policy_store_add(NULL, true, name, NULL, NULL) < 0;
            }
            _exit(bad);
        }
    }
    for (int w = 0; w < WRITERS; w++) {
        int status = -1;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    SB_CLEANUP(json) json_t *rules = json_array();
    assert_int_equal(policy_store_rules(NULL, rules, NULL, NULL), 0);
    assert_int_equal(json_array_size(rules), WRITERS * EACH);
}

static void test_pattern_errors_point_into_the_pattern(void **state)
{
    (void)state;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    assert_int_equal(policy_store_add(NULL, true, "a.*.com", NULL, &err), SB_EUSAGE);
    assert_int_equal(err->place.column, 3);
    assert_string_equal(err->place.excerpt, "a.*.com");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_edits_keep_the_rest),
        cmocka_unit_test(test_sandbox_rules),
        cmocka_unit_test(test_writers_lose_nothing),
        cmocka_unit_test(test_pattern_errors_point_into_the_pattern),
    };
    return cmocka_run_group_tests(tests, setup_home, teardown_home);
}
