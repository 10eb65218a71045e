/* SPDX-License-Identifier: Apache-2.0
 * The decision: may this sandbox talk to that place, and which rule says so.  Pure: no I/O.
 *
 * A rule is a line, whoever wrote it (docs/policy.md explains it to people):
 *
 *   ("allow" | "deny") PATTERN ["method" METHOD[,METHOD...] ["path" GLOB]] ["except" PATTERN...]
 *
 * PATTERN is HOST[:PORT], where PORT is one, a range (8000-8999) or * (any, as without), and HOST
 *   name, address      exact
 *   *.name             exactly one label more
 *   **.name            one or more labels more
 *   name.*.name        exactly one label between
 *   **                 everything
 *   10.0.0.0/8         CIDR (IPv6 with ports in brackets: [2001:db8::/32]:443)
 *
 * Without "method" it is a network rule: it decides about connections, whatever they carry.  With
 * it (METHOD: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT, TRACE or ANY; GLOB: path.h) it
 * is an HTTP rule and decides about single requests.
 *
 * Allowed is what an allow rule of either kind covers and no deny rule of either kind does: deny
 * wins, whatever the order or origin; no rule means deny.  "except" makes a hole in its own deny
 * rule, which allows nothing by itself.  "localhost", the services of this machine, is allowed by
 * rules that name it and by no wildcard. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/host.h"

enum { POLICY_RULES_MAX = 250000 };

struct policy; /* an immutable-after-build set of rules; the cost of a decision does not grow with
                  their number */

struct policy_rule {
    char *text;         /* canonical text, "allow example.com:443" */
    char *id;           /* 8 hex digits, stable for the same text and origin */
    const char *origin; /* "global", "preset:balanced", "sandbox", "kit:NAME" */
    bool allow;
};

struct policy_request {
    const struct host *host;
    uint16_t port;
    /* As they stand in the request, the path with or without its query.  NULL: the question is
     * about a connection, whose requests will not be seen. */
    const char *method, *path;
    size_t method_len, path_len;
};

struct policy_decision {
    bool allow;
    /* Not allowed as a mere connection: HTTP rules hold here.  May be opened when every request in
     * it is seen and judged by itself; `rule` is one of those rules. */
    bool needs_request;
    const struct policy_rule *rule; /* NULL: default deny */
    /* The allow rule (of either kind) names this very host or address (no wildcard, no CIDR): only
     * such a rule may lead to a loopback or link-local address. */
    bool exact;
    bool varies; /* about a connection: rules for methods and paths may give its requests another
                    rule, or refuse them */
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

void policy_decide(const struct policy *policy, const struct policy_request *request,
                   struct policy_decision *ret);
/* May a connection to this place be opened only if its requests are seen? */
bool policy_needs_request(const struct policy *policy, const struct host *host, uint16_t port);
/* Is there any HTTP rule at all? */
bool policy_has_http_rules(const struct policy *policy);
/* Is there a port on which the host may be reached, at least for some request?  *ret says why. */
bool policy_allows_name(const struct policy *policy, const struct host *host,
                        struct policy_decision *ret);
/* May a name that was allowed by `by_name` lead to this resolved address?  Public addresses: unless
 * a deny rule covers them.  Private ones: only when the user (origin global or sandbox, not kit or
 * preset) allowed that exact host, or the address or a network around it.  Loopback, link-local and
 * other: only when the user's rule names the address itself, or "localhost" was meant by the
 * caller. */
bool policy_allows_address(const struct policy *policy, const struct policy_decision *by_name,
                           const struct in6_addr *address, uint16_t port);
/* Same, for an address that the user pinned the name to: it counts as named; a deny rule wins. */
bool policy_allows_pinned(const struct policy *policy, const struct policy_decision *by_name,
                          const struct in6_addr *address, uint16_t port);
/* May a name that was allowed by `by_name`, and that nobody here can resolve, be given to an
 * upstream proxy, which perhaps can?  Names that only private networks have: as private addresses,
 * only when the user allowed that exact host. */
bool policy_allows_unresolved(const struct policy_decision *by_name, const struct host *host);
/* The deny rule that covers this address, whatever name led there, or NULL. */
const struct policy_rule *policy_denies_address(const struct policy *policy,
                                                const struct in6_addr *address, uint16_t port);
/* The domain-pattern match alone (credential injection uses the same grammar): does the pattern
 * text of a kit ("api.example.com", "*.example.com:443", "localhost:11434") cover host:port? A
 * pattern that does not parse matches nothing. */
bool policy_pattern_matches(const char *pattern, const struct host *host, uint16_t port);
