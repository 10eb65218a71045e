/* SPDX-License-Identifier: Apache-2.0
 * The pattern of a rule, parsed.  For policy/ and for the rules of
 * credentials; the grammar stands in policy.h. */
#pragma once

#include "policy/host.h"

enum pattern_kind {
    PATTERN_EXACT, /* a name or an address */
    PATTERN_ONE,   /* *.name: one label more */
    PATTERN_MANY,  /* **.name: one or more labels more */
    PATTERN_INNER, /* name.*.name: one label between */
    PATTERN_CIDR,
    PATTERN_ALL,
};

enum { PATTERN_TEXT_MAX = 320 }; /* canonical text with its terminator */

struct ports {
    uint16_t first, last; /* both of the range; any port is 0 to 65535 */
};

struct pattern {
    enum pattern_kind kind;
    /* EXACT: the host; ONE, MANY: the name behind the stars; INNER: all, with its star; CIDR: the
     * network */
    struct host host;
    uint8_t prefix; /* CIDR: of 128 bits; IPv4 networks count from 96 */
    struct ports ports;
};

/* Parses `n` bytes.  Errors carry a column that counts from the beginning of `text`. */
int pattern_parse(const char *text, size_t n, struct pattern *ret, struct sb_err **err);
void pattern_format(const struct pattern *pattern, char ret[PATTERN_TEXT_MAX]);
bool pattern_matches(const struct pattern *pattern, const struct host *host, uint16_t port);
/* Is each host that `inner` names one that `outer` names, and do they have a port in common? */
bool pattern_covers(const struct pattern *outer, const struct pattern *inner);
bool ports_any(const struct ports *ports);
static inline bool ports_have(const struct ports *ports, uint16_t port)
{
    return ports->first <= port && port <= ports->last;
}
/* Clears the bits behind the prefix. */
void address_mask(struct in6_addr *address, unsigned prefix);
