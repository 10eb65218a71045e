/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a rule line: what is accepted must have a canonical text that means itself, and the
 * table must agree with the plain match. */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_agreement(const char *line)
{
    static const char *const hosts[] = {"example.com", "a.example.com", "a.b.example.com",
                                        "10.1.2.3",    "2001:db8::1",   "localhost"};
    SB_CLEANUP(policy) struct policy *policy = policy_new();
    if (policy_add(policy, line, "global", NULL, NULL) < 0) {
        abort();
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(hosts); i++) {
        struct host host;
        struct policy_decision decision;
        host_parse(hosts[i], strlen(hosts[i]), &host, NULL);
        policy_decide(policy, &host, 443, &decision);
        if ((decision.rule != NULL) != policy_pattern_matches(strchr(line, ' ') + 1, &host, 443)) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096) {
        return 0;
    }
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
