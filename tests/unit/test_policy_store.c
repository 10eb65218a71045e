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

static int put_rule(const char *sandbox, const char *pattern)
{
    SB_CLEANUP(json) json_t *rules = json_array();
    SB_CLEANUP(free) char *text = NULL;
    assert_int_equal(policy_canonical_pattern(true, pattern, &text, NULL), 0);
    json_array_append_new(rules, json_string(text));
    return policy_store_add(sandbox, rules, NULL);
}

/* How many rules it removed. */
static size_t take_rule(struct policy_selection selection)
{
    SB_CLEANUP(json) json_t *removed = json_array();
    assert_int_equal(policy_store_remove(NULL, &selection, removed, NULL), 0);
    return json_array_size(removed);
}

static void test_presets(void **state)
{
    (void)state;
    static const char *const names[] = {"allow-all", "balanced", "deny-all"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        SB_CLEANUP(json) json_t *rules = json_array();
        SB_CLEANUP(policy) struct policy *policy = NULL;
        SB_CLEANUP(err) struct sb_err *err = NULL;
        bool chosen = i > 0;
        assert_int_equal(policy_store_chosen(&chosen, NULL), 0);
        assert_int_equal(chosen, i > 0);
        assert_int_equal(policy_store_set_preset(names[i], NULL), 0);
        if (policy_store_rules(NULL, rules, &err) < 0) {
            fail_msg("%s:%zu: %s", err->place.file, err->place.line, err->message);
        }
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
    assert_true(policy_store_rules(NULL, rules, &err) < 0);
    assert_non_null(strstr(err->place.file, "global.rules"));
    assert_int_equal(err->place.line, 2);
    assert_int_equal(err->place.column, 16);
    assert_int_equal(json_array_size(rules), 0);

    put_file("global.rules", "# mine\n\n  allow A.com\npreset balanced\ndeny b.com");
    assert_int_equal(put_rule(NULL, "C.com:443"), 0);
    assert_int_equal(put_rule(NULL, "c.com:443"), 0);
    assert_int_equal(policy_store_set_preset("deny-all", NULL), 0);
    SB_CLEANUP(free) char *text = get_file("global.rules");
    assert_string_equal(text,
                        "# mine\n\n  allow A.com\npreset deny-all\ndeny b.com\nallow c.com:443\n");

    char id[POLICY_ID_MAX];
    policy_rule_id("allow c.com:443", "global", id);
    assert_int_equal(take_rule((struct policy_selection){.resource = id}), 0);
    assert_int_equal(take_rule((struct policy_selection){.id = id}), 1);
    assert_int_equal(take_rule((struct policy_selection){.word = "a.COM"}), 1);
    assert_int_equal(take_rule((struct policy_selection){.word = "nothing.com"}), 0);
    SB_CLEANUP(free) char *after = get_file("global.rules");
    assert_string_equal(after, "# mine\n\npreset deny-all\ndeny b.com\n");
}

static void test_sandbox_rules(void **state)
{
    (void)state;
    put_file("global.rules", "preset deny-all\nallow g.com\n");
    assert_int_equal(put_rule("global", "s.com"), 0);
    SB_CLEANUP(json) json_t *rules = json_array();
    assert_int_equal(policy_store_rules("global", rules, NULL), 0);
    assert_int_equal(json_array_size(rules), 2);
    assert_string_equal(sb_json_str(json_array_get(rules, 0), "origin"), "global");
    assert_string_equal(sb_json_str(json_array_get(rules, 1), "origin"), "sandbox");
    assert_int_equal(policy_store_forget("global", NULL), 0);
    assert_int_equal(policy_store_forget("global", NULL), 0);
    json_array_clear(rules);
    assert_int_equal(policy_store_rules("global", rules, NULL), 0);
    assert_int_equal(json_array_size(rules), 1);
    assert_true(put_rule("../x", "s.com") < 0);
    put_file("sandbox/p.rules", "preset allow-all\n");
    assert_true(policy_store_rules("p", rules, NULL) < 0);
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
                bad |= put_rule(NULL, name) < 0;
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
    assert_int_equal(policy_store_rules(NULL, rules, NULL), 0);
    assert_int_equal(json_array_size(rules), WRITERS * EACH);
}

static void test_rules_are_named_by_their_parts(void **state)
{
    (void)state;
    static const char rules[] = "allow a.com\nallow a.com method GET path /x\n"
                                "deny a.com method GET,POST\nallow b.com\n"
                                "deny **.c.com except d.c.com\n";
    static const struct {
        struct policy_selection selection;
        size_t removed;
    } cases[] = {
        {{.resource = "a.com"}, 3},
        {{.resource = "A.com", .methods = "get"}, 1},
        {{.resource = "a.com", .methods = "POST,GET"}, 1},
        {{.resource = "a.com", .path = "/x"}, 1},
        {{.resource = "a.com", .methods = "PUT"}, 0},
        {{.resource = "a.com", .methods = "nonsense"}, 0},
        {{.word = "allow a.com"}, 1},
        {{.word = "deny A.com method POST,GET"}, 1},
        {{.word = "**.c.com"}, 1},
        {{.word = "deny **.c.com except D.c.com"}, 1},
        {{.word = "deny **.c.com"}, 0},
        {{.id = "a.com"}, 0},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        put_file("global.rules", rules);
        if (take_rule(cases[i].selection) != cases[i].removed) {
            fail_msg("case %zu", i);
        }
    }
}

static const char *pinned_to(const json_t *pins, const char *name)
{
    const char *address = NULL;
    for (size_t i = 0; i < json_array_size(pins); i++) {
        const json_t *pin = json_array_get(pins, i);
        address =
            strcmp(sb_json_str(pin, "name"), name) == 0 ? sb_json_str(pin, "address") : address;
    }
    return address;
}

static void test_pins(void **state)
{
    (void)state;
    put_file("global.rules", "# mine\nallow a.com\n  host Git.Corp.  10.0.0.1\n");
    SB_CLEANUP(json) json_t *pins = json_array();
    bool removed = false;
    assert_int_equal(policy_store_pin(NULL, "WIKI.corp", "[::1]:8443", NULL), 0);
    assert_int_equal(policy_store_pin(NULL, "wiki.corp", "[::2]:8443", NULL), 0);
    assert_int_equal(policy_store_pin("box", "git.corp", "127.0.0.1:80", NULL), 0);
    assert_int_equal(policy_store_pins("box", pins, NULL), 0);
    assert_int_equal(json_array_size(pins), 3);
    assert_string_equal(pinned_to(pins, "git.corp"), "127.0.0.1:80");
    assert_string_equal(pinned_to(pins, "wiki.corp"), "[::2]:8443");
    assert_int_equal(policy_store_unpin("box", "wiki.corp", &removed, NULL), 0);
    assert_false(removed);
    assert_int_equal(policy_store_unpin(NULL, "GIT.corp", &removed, NULL), 0);
    assert_true(removed);
    SB_CLEANUP(free) char *text = get_file("global.rules");
    assert_string_equal(text, "# mine\nallow a.com\nhost wiki.corp [::2]:8443\n");
    assert_int_equal(policy_store_forget("box", NULL), 0);
    SB_CLEANUP(json) json_t *rules = json_array();
    assert_int_equal(policy_store_rules(NULL, rules, NULL), 0); /* pins are no rules */
}

static void test_refused_pins(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t column;
    } cases[] = {
        {"host", 5},
        {"host a.com", 11},
        {"host a.com b.com", 12},
        {"host a.com 10.0.0.1 x", 21},
        {"host a.com 10.0.0.1:0", 21},
        {"host a..com 10.0.0.1", 8},
        {"host *.a.com 10.0.0.1", 6},
        {"host localhost 10.0.0.1", 6},
        {"host host.docker.internal 10.0.0.1", 6},
        {"host 10.0.0.2 10.0.0.1", 6},
        {"  host a.com 127.1", 14},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(json) json_t *pins = json_array();
        SB_CLEANUP(err) struct sb_err *err = NULL;
        SB_CLEANUP(free) char *text = sb_xasprintf("# first\n%s\n", cases[i].line);
        put_file("global.rules", text);
        assert_true(policy_store_pins(NULL, pins, &err) < 0);
        if (err->place.line != 2 || err->place.column != cases[i].column) {
            fail_msg("'%s': column %zu: %s", cases[i].line, err->place.column, err->message);
        }
    }
    put_file("global.rules", "");
}

/* A kit's rules have the same grammar as all others. */
static void test_plan_rules(void **state)
{
    (void)state;
    SB_CLEANUP(json)
    json_t *plan = json_pack("{s:[{s:s,s:s},{s:s,s:s}],s:[{s:s,s:s}]}", "allow", "rule",
                             "A.com:8000-8001", "kit", "k", "rule", "b.com method GET path /x/**",
                             "kit", "k", "deny", "rule", "**.c.com except d.c.com", "kit", "k");
    SB_CLEANUP(json) json_t *rules = json_array();
    assert_int_equal(policy_plan_rules(plan, rules, NULL), 0);
    assert_int_equal(json_array_size(rules), 3);
    assert_string_equal(sb_json_str(json_array_get(rules, 0), "text"), "allow a.com:8000-8001");
    assert_string_equal(sb_json_str(json_array_get(rules, 2), "text"),
                        "deny **.c.com except d.c.com");
    assert_string_equal(sb_json_str(json_array_get(rules, 1), "origin"), "kit:k");
    assert_true(policy_rules_see_requests(rules));
    json_array_remove(rules, 1);
    assert_false(policy_rules_see_requests(rules));
}

/* The caret stands under what the person wrote, flag by flag. */
static void test_errors_point_into_words(void **state)
{
    (void)state;
    static const char *const good[] = {"b.a.com"}, *const bad[] = {"b.a.com", "c.*x.com"};
    static const struct {
        bool allow;
        struct policy_words words;
        size_t column;
        const char *excerpt;
    } cases[] = {
        {true, {.pattern = "a.*x.com"}, 3, "a.*x.com"},
        {true, {.pattern = "a.com", .methods = "GET,NOT"}, 5, "GET,NOT"},
        {true, {.pattern = "a.com", .methods = "GET", .path = "/a/../b"}, 4, "/a/../b"},
        {true, {.pattern = "10.0.0.1", .methods = "GET"}, 1, "10.0.0.1"},
        {false, {.pattern = "**.a.com", .except = bad, .nexcept = 2}, 3, "c.*x.com"},
        {false, {.pattern = "**.b.com", .except = good, .nexcept = 1}, 1, "b.a.com"},
        {true, {.pattern = ""}, 1, ""},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(err) struct sb_err *err = NULL;
        char *text = NULL;
        assert_int_equal(policy_canonical_words(cases[i].allow, &cases[i].words, &text, &err),
                         SB_EUSAGE);
        if (err->place.column != cases[i].column) {
            fail_msg("case %zu: column %zu: %s", i, err->place.column, err->message);
        }
        assert_string_equal(err->place.excerpt, cases[i].excerpt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_edits_keep_the_rest),
        cmocka_unit_test(test_sandbox_rules),
        cmocka_unit_test(test_writers_lose_nothing),
        cmocka_unit_test(test_rules_are_named_by_their_parts),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_refused_pins),
        cmocka_unit_test(test_plan_rules),
        cmocka_unit_test(test_errors_point_into_words),
    };
    return cmocka_run_group_tests(tests, setup_home, teardown_home);
}
