/* SPDX-License-Identifier: Apache-2.0
 * Stacking: what is merged, in which order, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/msg.h"
#include "plan/plan.h"
#include "spec/builtin.h"

static const struct plan_context context = {.workspace = "/src/app"};

static int compose(const char *a, const char *b, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(kit) struct kit *shell = NULL, *one = NULL, *two = NULL;
    assert_int_equal(kit_load_builtin("shell", &shell, NULL), 0);
    assert_int_equal(kit_parse("a.yaml", a, strlen(a), &one, NULL), 0);
    assert_int_equal(kit_parse("b.yaml", b, strlen(b), &two, NULL), 0);
    const struct kit *kits[] = {shell, one, two};
    return plan_compose(kits, 3, &context, ret, err);
}

#define KIT(name, rest) "schemaVersion: \"1\"\nkind: mixin\nname: " name "\n" rest

static void test_merge(void **state)
{
    (void)state;
    SB_CLEANUP(json) json_t *plan = NULL;
    assert_int_equal(
        compose(KIT("a", "environment: {variables: {X: one, Y: y}}\nmemory: About a.\n"
                         "commands: {install: [{command: first}], startup: [{command: [s]}]}\n"),
                KIT("b", "environment: {variables: {X: two}}\ncommands:\n  install: "
                         "[{command: second, user: 1000}]\n  initFiles: [{path: "
                         "'${WORKDIR}/x', content: 'in ${WORKDIR}.'}]\n"),
                &plan, NULL),
        0);
    assert_string_equal(sb_json_str(json_object_get(plan, "env"), "X"), "two");
    const json_t *steps = json_object_get(plan, "steps");
    static const char *const phases[] = {"install", "install", "files",
                                         "startup", "memory",  "memory"};
    assert_int_equal(json_array_size(steps), SB_ARRAY_LEN(phases));
    for (size_t i = 0; i < SB_ARRAY_LEN(phases); i++) {
        assert_string_equal(sb_json_str(json_array_get(steps, i), "phase"), phases[i]);
    }
    assert_string_equal(sb_json_str(json_array_get(steps, 1), "user"), "1000");
    assert_string_equal(sb_json_str(json_array_get(steps, 2), "path"), "/src/app/x");
    assert_string_equal(sb_json_str(json_array_get(steps, 2), "content"), "in /src/app.");
    assert_string_equal(sb_json_str(json_array_get(steps, 4), "path"),
                        "/src/kits-agent-context/a.md");
    assert_string_equal(sb_json_str(json_array_get(steps, 5), "path"), "/src/AGENTS.md");
}

#define INJECT(service, domain)                                                                    \
    "{service: " service ", apiKey: {inject: [{domain: " domain ", header: A}, {domain: " domain   \
    ", header: B}]}}"

/* One kit may name a domain as often as it likes; what it names it needs. */
static void test_domains_of_one_kit(void **state)
{
    (void)state;
    SB_CLEANUP(json) json_t *plan = NULL;
    assert_int_equal(
        compose(KIT("a", "credentials: [" INJECT("s", "d") ", " INJECT("t", "d") "]\n"),
                KIT("b", "oauth: {service: o, tokenEndpoint: {host: e, path: /p}, "
                         "sentinels: {accessToken: a, refreshToken: r}}\n"),
                &plan, NULL),
        0);
    assert_int_equal(json_array_size(json_object_get(plan, "credentials")), 3);
    const json_t *allow = json_object_get(plan, "allow");
    assert_string_equal(sb_json_str(json_array_get(allow, 0), "rule"), "d");
    assert_string_equal(sb_json_str(json_array_get(allow, json_array_size(allow) - 1), "rule"),
                        "e");
    assert_string_equal(sb_json_str(json_array_get(allow, json_array_size(allow) - 1), "kit"), "b");
}

/* A kit that only says of more hosts that they belong to a service adds them to another's. */
static void test_addition(void **state)
{
    (void)state;
    SB_CLEANUP(json) json_t *plan = NULL;
    assert_int_equal(
        compose(KIT("a",
                    "secrets: [S]\nnetwork: {serviceDomains: {d.example: s}}\noauth: {service: "
                    "s, tokenEndpoint: {host: e, path: /p}, sentinels: {accessToken: a, "
                    "refreshToken: r}}\n"),
                KIT("b", "network: {serviceDomains: {e.example: s}, serviceAuth: {s: {headerName: "
                         "X, valueFormat: '%s'}}}\n"),
                &plan, NULL),
        0);
    const json_t *all = json_object_get(plan, "credentials");
    assert_int_equal(json_array_size(all), 1);
    const json_t *inject = json_object_get(json_array_get(all, 0), "inject");
    assert_int_equal(json_array_size(inject), 2);
    assert_string_equal(sb_json_str(json_array_get(inject, 1), "domain"), "e.example");
    assert_string_equal(sb_json_str(json_array_get(inject, 1), "header"), "X");
    const json_t *oauth = json_object_get(json_array_get(all, 0), "oauth");
    assert_int_equal(json_array_size(json_object_get(oauth, "hosts")), 3);
}

/* What grammar "1" lets a mixin say and what a sandbox makes of it. */
static void test_said_to_the_author(void **state)
{
    (void)state;
    SB_CLEANUP(json) json_t *plan = NULL;
    assert_int_equal(compose(KIT("a", "extends: shell\nsecurity: {privileged: true}\n"),
                             KIT("b", "publishedPorts: [{container: 53, protocol: udp}, "
                                      "{container: 80}, {container: 80}]\n"),
                             &plan, NULL),
                     0);
    assert_int_equal(json_array_size(json_object_get(plan, "ports")), 3);
    const json_t *warnings = json_object_get(plan, "warnings");
    assert_int_equal(json_array_size(warnings), 2);
    assert_non_null(strstr(sb_json_str(json_array_get(warnings, 0), "message"),
                           "kit 'a': security.privileged"));
    assert_non_null(strstr(sb_json_str(json_array_get(warnings, 1), "message"),
                           "kit 'b': publishedPorts: udp"));
}

static void test_conflicts(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *message;
    } rows[] = {
        {KIT("a", ""), KIT("a", ""), "duplicate kit name \"a\": of 'a.yaml' and of 'b.yaml'"},
        {KIT("a", "requires: {agent: claude}\n"), KIT("b", ""), "requires the agent 'claude'"},
        {KIT("a", "credentials: {sources: {s: {env: [S]}}}\n"),
         KIT("b", "credentials: {sources: {s: {env: [S]}}}\n"), "credential service \"s\""},
        {KIT("a", "network: {serviceDomains: {d.example: s}}\n"),
         KIT("b", "network: {serviceDomains: {d.example: t}}\n"), "domain \"d.example\""},
        {KIT("a", "extends: claude\n"), KIT("b", ""), "requires the agent 'claude'"},
        {KIT("a", ""), KIT("shell", ""), "duplicate kit name \"shell\": of 'builtin:shell/"},
        /* An addition comes behind what it adds to, and takes no domain of another kit. */
        {KIT("a", "network: {serviceDomains: {d.example: s}}\n"),
         KIT("b", "credentials: {sources: {s: {env: [S]}}}\n"), "credential service \"s\""},
        {KIT("a", "secrets: [S]\nnetwork: {serviceDomains: {d.example: s}}\n"),
         KIT("b", "network: {serviceDomains: {d.example: s}}\n"), "domain \"d.example\""},
        {KIT("a", ""), "schemaVersion: \"1\"\nkind: sandbox\nname: b\nsandbox: {image: x/y}\n",
         "kit 'b' names the image 'x/y': images are not supported yet"},
        {KIT("a", ""),
         "schemaVersion: \"1\"\nkind: sandbox\nname: b\nsandbox: {image: \"x\\nsbx: y\"}\n",
         "kit 'b' names the image 'x?sbx: y'"},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(rows); i++) {
        SB_CLEANUP(err) struct sb_err *err = NULL;
        json_t *plan = NULL;
        assert_true(compose(rows[i].a, rows[i].b, &plan, &err) < 0);
        assert_null(plan);
        assert_non_null(strstr(err->message, rows[i].message));
        /* Conformance kits look for these words. */
        bool builtin = strstr(rows[i].message, "duplicate kit name \"shell\"") != NULL;
        assert_int_equal(builtin,
                         err->hint &&
                             strstr(err->hint, "built-in agents cannot be overridden by a kit"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge), cmocka_unit_test(test_domains_of_one_kit),
        cmocka_unit_test(test_addition), cmocka_unit_test(test_said_to_the_author),
        cmocka_unit_test(test_conflicts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
