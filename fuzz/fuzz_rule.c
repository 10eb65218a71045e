/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a rule line: what is accepted must have a canonical text that means itself, and the
 * table must agree with the plain match of its parts. */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"
#include "policy/rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool excepted(const struct rule *rule, const struct host *host)
{
    for (size_t i = 0; i < rule->nexcept; i++) {
        if (pattern_matches(&rule->except[i], host, 443)) {
            return true;
        }
    }
    return false;
}

static void check_agreement(const char *line)
{
    static const char *const hosts[] = {"example.com",       "a.example.com", "a.b.example.com",
                                        "a.b.c.example.com", "10.1.2.3",      "2001:db8::1"};
    SB_CLEANUP(rule) struct rule rule = {0};
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    if (policy_add(policy, line, "global", NULL, NULL) < 0 || rule_parse(line, &rule, NULL) < 0) {
        abort();
    }
    /* Something to be denied from. */
    policy_add(policy, "allow **", "kit:x", NULL, NULL);
    for (size_t i = 0; i < SB_ARRAY_LEN(hosts); i++) {
        struct host host;
        struct policy_decision decision;
        host_parse(hosts[i], strlen(hosts[i]), &host, NULL);
        bool covered = pattern_matches(&rule.pattern, &host, 443) && !excepted(&rule, &host);
        policy_decide(policy, &(struct policy_request){.host = &host, .port = 443}, &decision);
        if (decision.allow != (rule.allow || !covered) ||
            decision.needs_request != (!rule.allow && covered && rule.methods)) {
            abort();
        }
    }
}

/* Any bytes as a path: what is clear has the same readings when it is read again, and every path
 * is one that "everything" covers. */
static void check_path(const char *path, size_t n)
{
    static struct path_reading reading;
    path_read(path, n, &reading);
    if (reading.unclear) {
        return;
    }
    if (!path_glob_matches("/**", &reading, false) || strlen(reading.text) != reading.len) {
        abort();
    }
    path_open_slashes(&reading);
    if (!path_glob_matches("/**", &reading, true)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096) {
        return 0;
    }
    check_path((const char *)data, size);
    SB_CLEANUP(free) char *line = sb_xstrndup((const char *)data, size);
    SB_CLEANUP(free) char *text = NULL, *again = NULL;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (policy_canonical_line(line, &text, &err) < 0) {
        return 0;
    }
    if (policy_canonical_line(text, &again, NULL) < 0 || strcmp(text, again) != 0) {
        abort();
    }
    check_agreement(text);
    return 0;
}
