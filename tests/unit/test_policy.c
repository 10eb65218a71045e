/* SPDX-License-Identifier: Apache-2.0
 * What rules mean, and that the table decides as a plain loop over the rules would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "policy/policy.h"

static struct host host_of(const char *text)
{
    struct host host;
    assert_int_equal(host_parse(text, strlen(text), &host, NULL), 0);
    return host;
}

static void add(struct policy *policy, const char *line, const char *origin)
{
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (policy_add(policy, line, origin, NULL, &err) < 0) {
        fail_msg("'%s': %s", line, err->message);
    }
}

static struct policy_decision decide(const struct policy *policy, const char *name, uint16_t port)
{
    struct host host = host_of(name);
    struct policy_decision decision;
    policy_decide(policy, &host, port, &decision);
    return decision;
}

static bool matches(const char *pattern, const char *name, uint16_t port)
{
    struct host host = host_of(name);
    char line[256];
    snprintf(line, sizeof(line), "allow %s", pattern);
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    add(policy, line, "global");
    bool allowed = decide(policy, name, port).allow;
    assert_int_equal(allowed, policy_pattern_matches(pattern, &host, port));
    return allowed;
}

static void test_patterns(void **state)
{
    (void)state;
    assert_true(matches("github.com", "GITHUB.com.", 443));
    assert_false(matches("github.com", "api.github.com", 443));
    assert_true(matches("github.com:443", "github.com", 443));
    assert_false(matches("github.com:443", "github.com", 22));
    assert_true(matches("*.github.com", "api.github.com", 443));
    assert_false(matches("*.github.com", "github.com", 443));
    assert_false(matches("*.github.com", "a.b.github.com", 443));
    assert_false(matches("*.github.com", "evilgithub.com", 443));
    assert_false(matches("*.github.com", "github.com.evil.com", 443));
    assert_true(matches("**.github.com", "a.b.github.com", 443));
    assert_true(matches("**.github.com:8443", "a.github.com", 8443));
    assert_false(matches("**.github.com", "github.com", 443));
    assert_false(matches("**.github.com", "evilgithub.com", 443));
    assert_true(matches("*.com", "a.com", 1));
    assert_true(matches("**.com", "a.b.com", 1));
    assert_true(matches("**", "localhost", 1));
    assert_true(matches("**", "10.1.1.1", 1));
    assert_true(matches("**:22", "a", 22));
    assert_false(matches("**:22", "a", 23));
    assert_true(matches("10.0.0.0/8", "10.255.0.1", 443));
    assert_true(matches("10.0.0.0/8", "::ffff:10.0.0.1", 443));
    assert_false(matches("10.0.0.0/8:22", "10.0.0.1", 443));
    assert_false(matches("10.0.0.0/8", "11.0.0.1", 443));
    assert_true(matches("0.0.0.0/0", "1.2.3.4", 1));
    assert_false(matches("::/0", "1.2.3.4", 1));
    assert_true(matches("::/0", "2001:db8::1", 1));
    assert_true(matches("[2001:db8::/32]:443", "2001:db8::1", 443));
    assert_true(matches("localhost:11434", "localhost", 11434));
}

static void test_refused_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t column;
    } cases[] = {
        {"allow *", 7},
        {"allow *foo.com", 7},
        {"allow a.*.com", 9},
        {"allow https://a.com/x", 7},
        {"allow a.com/x", 12},
        {"allow a.com:0", 13},
        {"allow a.com:65536", 13},
        {"allow ***", 7},
        {"allow *.1.2.3.4", 9},
        {"allow 10.0.0.1/8", 7},
        {"allow 10.0.0.0/33", 16},
        {"allow ::ffff:10.0.0.0/104", 7},
        {"permit a.com", 1},
        {"allow", 6},
        {"allow a.com b.com", 12},
        {"allow **:x", 10},
        {"allow 10.0.0.0/8:0", 18},
        {"  deny a..b", 10},
        {"allow *.", 9},
        {"allow 127.1", 7},
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(cases); i++) {
        SB_CLEANUP(policy) struct policy *policy = policy_new();
        SB_CLEANUP(err) struct sb_err *err = NULL;
        if (policy_add(policy, cases[i].line, "global", NULL, &err) == 0) {
            fail_msg("'%s' accepted", cases[i].line);
        }
        if (err->place.column != cases[i].column) {
            fail_msg("'%s': column %zu: %s", cases[i].line, err->place.column, err->message);
        }
        assert_string_equal(err->place.excerpt, cases[i].line);
        assert_int_equal(policy_count(policy), 0);
    }
}

static void test_hint_names_the_host(void **state)
{
    (void)state;
    char *text = NULL;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    assert_true(policy_canonical_line("allow https://api.example.com/v1", &text, &err) < 0);
    assert_string_equal(err->hint, "write api.example.com, not https://api.example.com");
}

static void test_deny_wins(void **state)
{
    (void)state;
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    add(policy, "allow a.com:443", "global");
    add(policy, "deny **.a.com:443", "kit:x");
    add(policy, "deny a.com:22", "global");
    struct policy_decision decision = decide(policy, "a.com", 443);
    assert_true(decision.allow && decision.exact);
    assert_string_equal(decision.rule->origin, "global");
    assert_false(decide(policy, "a.com", 22).allow);
    add(policy, "deny **", "sandbox");
    assert_false(decide(policy, "a.com", 443).allow);
    SB_CLEANUP(policy) struct policy *none = policy_new();
    assert_null(decide(none, "a.com", 1).rule);
}

static bool leads_to(const struct policy *policy, const char *name, const char *address)
{
    struct policy_decision decision = decide(policy, name, 443);
    struct host host = host_of(address);
    return policy_allows_address(policy, &decision, &host.address, 443);
}

static void test_addresses(void **state)
{
    (void)state;
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    add(policy, "allow wide.example", "kit:x");
    add(policy, "allow mine.example", "global");
    add(policy, "allow mine.example", "kit:x");
    add(policy, "allow *.star.example", "global");
    add(policy, "allow localhost:443", "global");
    add(policy, "deny 9.9.9.0/24", "global");
    add(policy, "allow 192.168.7.0/24", "global");
    add(policy, "allow 169.254.1.1", "global");
    assert_true(leads_to(policy, "wide.example", "8.8.8.8"));
    assert_false(leads_to(policy, "wide.example", "9.9.9.9"));
    assert_false(leads_to(policy, "wide.example", "64:ff9b::909:909"));
    assert_false(leads_to(policy, "wide.example", "10.0.0.1"));
    assert_true(leads_to(policy, "mine.example", "10.0.0.1"));
    assert_false(leads_to(policy, "a.star.example", "10.0.0.1"));
    assert_true(leads_to(policy, "a.star.example", "192.168.7.9"));
    assert_false(leads_to(policy, "mine.example", "127.0.0.1"));
    assert_false(leads_to(policy, "mine.example", "169.254.169.254"));
    assert_true(leads_to(policy, "mine.example", "169.254.1.1"));
    assert_true(leads_to(policy, "localhost", "127.0.0.1"));
    assert_false(leads_to(policy, "localhost", "169.254.169.254"));
    assert_false(leads_to(policy, "unknown.example", "8.8.8.8"));
}

static const char *const random_hosts[] = {"a.com",    "b.a.com",  "c.b.a.com",   "ba.com",   "com",
                                           "10.1.2.3", "10.9.9.9", "2001:db8::5", "localhost"};

static void random_pattern(unsigned *seed, char *out, size_t n)
{
    static const char *const patterns[] = {
        "a.com", "b.a.com",    "*.a.com",     "**.a.com", "**.com",
        "*.com", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32",
        "::/0",  "c.b.a.com",  "localhost",   "ba.com",   "**"};
    const char *pattern = patterns[(unsigned)rand_r(seed) % SB_ARRAY_LEN(patterns)];
    bool port = rand_r(seed) % 2 && !strchr(pattern, ':');
    snprintf(out, n, "%s%s", pattern, port ? (rand_r(seed) % 2 ? ":443" : ":80") : "");
}

/* Any order, any origin: allowed when some allow and no deny rule matches. */
static void test_agrees_with_plain_loop(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int round = 0; round < 3000; round++) {
        SB_CLEANUP(policy) struct policy *policy = policy_new();
        char patterns[6][64];
        bool allow[6];
        size_t count = (size_t)(rand_r(&seed) % 6) + 1;
        for (size_t i = 0; i < count; i++) {
            char line[80];
            random_pattern(&seed, patterns[i], sizeof(patterns[i]));
            allow[i] = rand_r(&seed) % 4 != 0;
            snprintf(line, sizeof(line), "%s %s", allow[i] ? "allow" : "deny", patterns[i]);
            add(policy, line, rand_r(&seed) % 2 ? "global" : "kit:x");
        }
        for (size_t h = 0; h < SB_ARRAY_LEN(random_hosts); h++) {
            struct host host = host_of(random_hosts[h]);
            bool allowed = false, denied = false;
            for (size_t i = 0; i < count; i++) {
                bool hit = policy_pattern_matches(patterns[i], &host, 443);
                allowed |= hit && allow[i];
                denied |= hit && !allow[i];
            }
            assert_int_equal(decide(policy, random_hosts[h], 443).allow, allowed && !denied);
        }
    }
}

static void test_many_rules(void **state)
{
    (void)state;
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    char line[64];
    for (int i = 0; i < 100000; i++) {
        snprintf(line, sizeof(line), "allow h%d.example.com:443", i);
        add(policy, line, "global");
    }
    assert_int_equal(policy_count(policy), 100000);
    add(policy, line, "global");
    assert_int_equal(policy_count(policy), 100000);
    for (int i = 0; i < 100000; i++) {
        snprintf(line, sizeof(line), "h%d.example.com", i);
        assert_true(decide(policy, line, 443).allow);
    }
    assert_false(decide(policy, "h100000.example.com", 443).allow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_refused_patterns),
        cmocka_unit_test(test_hint_names_the_host),
        cmocka_unit_test(test_deny_wins),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_agrees_with_plain_loop),
        cmocka_unit_test(test_many_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
