/* SPDX-License-Identifier: Apache-2.0
 * Which hosts are git's, and what the environment then holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/msg.h"
#include "sandbox/git_env.h"

/* The environment that is made of one rule of injection and of variables that are there already. */
static json_t *environment(const char *rule, const char *own)
{
    SB_CLEANUP(free) char *text = sb_xasprintf("[%s]", rule);
    SB_CLEANUP(json) json_t *inject = json_loads(text, 0, NULL);
    json_t *env = json_loads(own, 0, NULL);
    assert_non_null(inject);
    assert_non_null(env);
    SB_CLEANUP(json) json_t *places = git_env_places(inject);
    git_env_set(places, env);
    return env;
}

/* The GOPRIVATE that is made of them, or "". */
static char *goprivate(const char *rule, const char *own)
{
    SB_CLEANUP(json) json_t *env = environment(rule, own);
    const char *text = sb_json_str(env, "GOPRIVATE");
    return sb_xstrdup(text ? text : "");
}

#define BASIC(domain, more) "{\"domain\": \"" domain "\", \"format\": \"Basic %s\"" more "}"

static void test_which_hosts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {BASIC("Git.Example.COM.", ""), "git.example.com"},
        {BASIC("git.example.com:443", ""), "git.example.com"},
        {BASIC("git.example.com:8443", ""), ""}, /* a module's path has no port */
        {BASIC("*.example.com", ""), "*.example.com"},
        {BASIC("**.example.com", ""), "*.example.com"},
        {BASIC("**", ""), ""},
        {BASIC("localhost:8080", ""), ""},
        {BASIC("10.1.2.3", ""), ""},
        {BASIC("10.0.0.0/8", ""), ""},
        {BASIC("not a host", ""), ""},
        {"{\"domain\": \"a.com\", \"format\": \"Bearer %s\"}", ""},
        {"{\"domain\": \"a.com\", \"header\": \"X-Key\", \"format\": \"Basic %s\"}", ""},
        {"{\"domain\": \"a.com\", \"header\": \"authorization\", \"format\": \"basic %s\"}",
         "a.com"},
        {"{\"domain\": \"a.com\", \"username\": \"git\"}", "a.com"},
        {"{\"domain\": \"a.com\", \"scheme\": \"basic\", \"username\": \"\"}", "a.com"},
        {"{\"domain\": \"a.com\"}", ""},
        {"{\"format\": \"Basic %s\"}", ""},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(free) char *made = goprivate(cases[i][0], "{}");
        assert_string_equal(made, cases[i][1]);
    }
}

static void test_paths(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"\"/team/**\"", "a.com/team"},
        {"\"/team/app.git/**\"", "a.com/team/app"},
        {"\"/team/app*/**\"", "a.com/team"},
        {"\"/team\"", "a.com/team"},
        {"\"/**\"", "a.com"},
        {"\"/*/app\"", "a.com"},
        {"\"/x/**\", \"/y/**\", \"/x/*\"", "a.com/x,a.com/y"},
        {"3", "a.com"},
        {"", "a.com"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(free)
        char *rule = sb_xasprintf("{\"domain\": \"a.com\", \"username\": \"git\", \"paths\": [%s]}",
                                  cases[i][0]);
        SB_CLEANUP(free) char *made = goprivate(rule, "{}");
        assert_string_equal(made, cases[i][1]);
    }
}

/* What is named is kept; a host is added unless the list speaks of it. */
static void test_own_list(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "a.com"},
        {"b.com", "b.com,a.com"},
        {"a.com", "a.com"},
        {"b.com,a.com/team/*", "b.com,a.com/team/*"},
        {"a.com.example,xa.com", "a.com.example,xa.com,a.com"},
        {",,", ",,,a.com"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(free) char *own = sb_xasprintf("{\"GOPRIVATE\": \"%s\"}", cases[i][0]);
        SB_CLEANUP(free) char *made = goprivate(BASIC("a.com", ""), own);
        assert_string_equal(made, cases[i][1]);
    }
    SB_CLEANUP(free)
    char *other = goprivate(BASIC("a.com", ", \"paths\": [\"/team/**\"]"),
                            "{\"GOPRIVATE\": \"a.com/teamwork,a.com/other/*\"}");
    assert_string_equal(other, "a.com/teamwork,a.com/other/*,a.com/team");
    SB_CLEANUP(free) char *kept = goprivate("{\"domain\": \"a.com\"}", "{\"GOPRIVATE\": \"b\"}");
    assert_string_equal(kept, "b");
}

static void test_settings(void **state)
{
    (void)state;
    SB_CLEANUP(json) json_t *env = environment(BASIC("git.example.com:8443", ""), "{}");
    static const char *const wanted[][2] = {
        {"GIT_CONFIG_COUNT", "3"},
        {"GIT_CONFIG_KEY_0", "url.https://git.example.com:8443/.insteadOf"},
        {"GIT_CONFIG_VALUE_0", "git@git.example.com:"},
        {"GIT_CONFIG_KEY_1", "url.https://git.example.com:8443/.insteadOf"},
        {"GIT_CONFIG_VALUE_1", "ssh://git@git.example.com/"},
        {"GIT_CONFIG_KEY_2", "credential.https://git.example.com:8443.helper"},
        {"GIT_CONFIG_VALUE_2", ""},
    };
    assert_int_equal(json_object_size(env), SB_ARRAY_LEN(wanted));
    for (size_t i = 0; i < SB_ARRAY_LEN(wanted); i++) {
        assert_string_equal(sb_json_str(env, wanted[i][0]), wanted[i][1]);
    }
}

static void test_own_settings(void **state)
{
    (void)state;
    SB_CLEANUP(json)
    json_t *env = environment(BASIC("a.com", ""), "{\"GIT_CONFIG_COUNT\": \"1\", "
                                                  "\"GIT_CONFIG_KEY_0\": \"k\", "
                                                  "\"GIT_CONFIG_VALUE_0\": \"v\"}");
    assert_string_equal(sb_json_str(env, "GIT_CONFIG_COUNT"), "4");
    assert_string_equal(sb_json_str(env, "GIT_CONFIG_KEY_0"), "k");
    assert_string_equal(sb_json_str(env, "GIT_CONFIG_KEY_1"), "url.https://a.com/.insteadOf");
    static const char *const bad[] = {"x", "-1", "1x", " 1", "99999999999999999999", "5000"};
    for (size_t i = 0; i < SB_ARRAY_LEN(bad); i++) {
        SB_CLEANUP(free) char *own = sb_xasprintf("{\"GIT_CONFIG_COUNT\": \"%s\"}", bad[i]);
        SB_CLEANUP(json) json_t *left = environment(BASIC("a.com", ""), own);
        assert_string_equal(sb_json_str(left, "GIT_CONFIG_COUNT"), bad[i]);
        assert_null(json_object_get(left, "GIT_CONFIG_KEY_0"));
    }
}

/* However many hosts there are, a command can still be started. */
static void test_bounds(void **state)
{
    (void)state;
    SB_CLEANUP(buf) struct sb_buf rules;
    sb_buf_init(&rules, 1 << 20);
    for (unsigned i = 0; i < 1000; i++) {
        sb_buf_printf(&rules,
                      "%s{\"domain\": \"host-%u.with-a-long-name.example.com\", \"git\": true}",
                      i ? "," : "", i);
    }
    SB_CLEANUP(json) json_t *env = environment(rules.data, "{}");
    SB_CLEANUP(free) char *text = json_dumps(env, JSON_COMPACT);
    assert_true(strlen(text) < SB_MSG_MAX / 4);
    assert_string_equal(sb_json_str(env, "GOPRIVATE"), "*");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_hosts),  cmocka_unit_test(test_paths),
        cmocka_unit_test(test_own_list),     cmocka_unit_test(test_settings),
        cmocka_unit_test(test_own_settings), cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
