/* SPDX-License-Identifier: Apache-2.0
 * Host names and addresses as text, in one canonical form: lower-case A-labels without a trailing
 * dot, or an address as inet_ntop writes it (no brackets, IPv4-mapped IPv6 as IPv4).  Everything
 * that compares hosts compares canonical forms. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { HOST_MAX = 254 }; /* RFC 1035 2.3.4: 253 octets of text, and the terminator */

struct host {
    char text[HOST_MAX];
    bool is_address;
    struct in6_addr address; /* when is_address; IPv4 as ::ffff:a.b.c.d */
};

/* Canonicalises `n` bytes of hostile text.  Refuses NUL, control, space, '%', '\\', '@', '/', empty
 * labels, labels over 63, and odd forms of IPv4 (0x7f000001, 2130706433, 127.1, 010.0.0.1).
 * Brackets around IPv6 are accepted. */
int host_parse(const char *text, size_t n, struct host *ret, struct sb_err **err);
/* A decimal number from 1 to 65535, without leading zeros. */
int host_parse_port(const char *text, size_t n, uint16_t *ret, struct sb_err **err);
/* "host", "host:port", "[v6]:port"; *ret_port is `default_port` when there is none. */
int host_parse_authority(const char *text, size_t n, uint16_t default_port, struct host *ret,
                         uint16_t *ret_port, struct sb_err **err);

/* The names that sandboxes know the host's loopback by ("host.docker.internal") become "localhost",
 * in requests and in rules alike. */
void host_map_alias(struct host *host);

/* A name that means this machine or what is attached to it, wherever it is asked for: below
 * "localhost" (RFC 6761), or a metadata service's. */
bool host_is_near(const struct host *host);
/* A name that only private networks have: one label, or below a top level domain that is kept free
 * for them (RFC 6762 appendix G, RFC 8375, ".internal"). */
bool host_is_private_name(const struct host *host);

/* The canonical host of an address. */
void host_from_address(const struct in6_addr *address, struct host *ret);

enum address_class {
    ADDRESS_PUBLIC,
    ADDRESS_LOOPBACK,
    ADDRESS_PRIVATE,    /* RFC 1918, RFC 4193, 100.64/10 */
    ADDRESS_LINK_LOCAL, /* 169.254/16, fe80::/10: metadata services live here */
    ADDRESS_OTHER,      /* unspecified, multicast, broadcast, reserved, our synthetic ranges */
};
enum address_class address_classify(const struct in6_addr *address);
/* The IPv4 address (as ::ffff:a.b.c.d) that a NAT64 (64:ff9b::/96) or 6to4 (2002::/16) address
 * leads to; any other address unchanged. */
void address_unwrap(const struct in6_addr *address, struct in6_addr *ret);
