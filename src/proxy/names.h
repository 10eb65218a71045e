/* SPDX-License-Identifier: Apache-2.0
 * Synthetic addresses: each name that the sandbox may reach gets one IPv4 and one IPv6 address of
 * our own ranges, so that a connection to that address can be mapped back to the name.
 *
 * A mapping is stable while the process lives, unless LIMIT_NAMES other names were used since: then
 * the least recently used gives way.  The same number indexes both ranges. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

/* 198.18.0.0/15 (RFC 2544: benchmarking, never on the Internet) and a ULA prefix. */
#define NAMES_V4_BASE 0xc6120000u
#define NAMES_V4_MASK 0xfffe0000u
#define NAMES_V6_PREFIX                                                                            \
    {                                                                                              \
        0xfd, 0x00, 0x00, 0x5b, 0x00, 0x78                                                         \
    }

struct names;

struct names *names_new(void);
void names_free(struct names *names);
/* The addresses of `name` (canonical); *ret_v4 is ::ffff:a.b.c.d. */
void names_assign(struct names *names, const char *name, struct in6_addr *ret_v4,
                  struct in6_addr *ret_v6);
/* Is this address in one of our ranges?  *ret_name is then its name, or NULL when nobody has it;
 * valid until the next names_assign(). */
bool names_lookup(struct names *names, const struct in6_addr *address, const char **ret_name);
