/* SPDX-License-Identifier: Apache-2.0
 * The decision: may this sandbox talk to that place, and which rule says so.  Pure: no I/O.
 *
 * A rule is a line: ("allow" | "deny") SP PATTERN, where PATTERN is one of
 *   host  host:port        exact name or address (any port, or that one)
 *   *.host[:port]          exactly one label more
 *   **.host[:port]         one or more labels more
 *   **  **:port            everything
 *   10.0.0.0/8[:port]      CIDR (IPv6: [2001:db8::/32]:port or without brackets when no port)
 * Deny wins over allow whatever the order or origin; no rule means deny. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/host.h"

struct policy; /* an immutable-after-build set of rules; matching cost does not grow with exact
                  rules */

struct policy_rule {
    char *text;   /* canonical text, "allow example.com:443" */
    char *id;     /* 8 hex digits, stable for the same text and origin */
    char *origin; /* "global", "preset:balanced", "sandbox", "kit:NAME" */
    bool allow;
};

struct policy_decision {
    bool allow;
    const struct policy_rule *rule; /* NULL: default deny */
    /* The deciding allow rule names this very host or address (no wildcard, no CIDR): only such a
     * rule may lead to a loopback or link-local address. */
    bool exact;
};

struct policy *policy_new(void);
void policy_free(struct policy *policy);
SB_DEFINE_CLEANUP(policy, struct policy *, policy_free)
/* Parses and adds one rule line.  `id` NULL: computed.  Errors carry a place (file NULL, line 1,
 * column) and an excerpt, so that a caret can be shown. */
int policy_add(struct policy *policy, const char *line, const char *origin, const char *id,
               struct sb_err **err);
/* The canonical text of a rule line; the caller frees. Errors as policy_add(). */
int policy_canonical_line(const char *line, char **ret, struct sb_err **err);
/* The id that policy_add() computes from the canonical text. */
enum { POLICY_ID_MAX = 9 };
void policy_rule_id(const char *text, const char *origin, char ret[POLICY_ID_MAX]);
size_t policy_count(const struct policy *policy);
const struct policy_rule *policy_rule_at(const struct policy *policy, size_t index);

void policy_decide(const struct policy *policy, const struct host *host, uint16_t port,
                   struct policy_decision *ret);
/* May a name that was allowed by `by_name` lead to this resolved address?  Public addresses: unless
 * a deny CIDR covers them.  Private ones: only when `by_name` is exact and comes from the user
 * (origin global or sandbox, not kit or preset) or an allow CIDR names them.  Loopback, link-local
 * and other: only when the address itself is allowed by an exact rule or "localhost" was meant by
 * the caller. */
bool policy_allows_address(const struct policy *policy, const struct policy_decision *by_name,
                           const struct in6_addr *address, uint16_t port);
/* The domain-pattern match alone (credential injection uses the same grammar): does the pattern
 * text of a kit ("api.example.com", "*.example.com:443", "localhost:11434") cover host:port? A
 * pattern that does not parse matches nothing. */
bool policy_pattern_matches(const char *pattern, const struct host *host, uint16_t port);
