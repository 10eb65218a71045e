/* SPDX-License-Identifier: Apache-2.0
 * DNS messages of the proxy's own resolver (RFC 1035, 6891): reads a query, writes an answer.
 *
 * Pure and allocation-free. It never recurses: an answer holds only what the caller passes. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DNS_NAME_MAX = 254,      /* text with the terminator, no trailing dot */
    DNS_UDP_MAX = 1232,      /* largest answer over UDP, whatever the client offers */
    DNS_MESSAGE_MAX = 65535, /* over TCP */
};
enum { DNS_TYPE_A = 1, DNS_TYPE_AAAA = 28 };
enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16, /* of EDNS, RFC 6891 */
};

struct dns_query {
    uint16_t id;
    uint16_t flags; /* of the header, as received */
    uint16_t type;
    uint16_t class;
    char name[DNS_NAME_MAX]; /* lower case; bytes outside of host names are refused */
    uint8_t question[260];   /* name (case kept), type and class, as received */
    size_t question_len;     /* 0: the question could not be read */
    bool edns;
    uint16_t udp_size; /* what the client accepts: 512 without EDNS */
};

/* 0: one question in `ret`. Another dns_rcode: answer with that code, `ret` holds
 * what is needed for it.  -1: not a query at all (too short, or a response): do not answer. */
int dns_parse_query(const uint8_t *data, size_t len, struct dns_query *ret);

/* Writes an answer of at most `cap` bytes: the addresses that fit the question's type (IPv4 as
 * mapped
 * ::ffff:a.b.c.d for A, others for AAAA); with DNS_NOERROR and none of them: no data.  What does
 * not fit is left out and TC is set.  Returns the length, or 0 when not even the question fits. */
size_t dns_format_answer(const struct dns_query *query, int rcode, const struct in6_addr *addresses,
                         size_t n, uint32_t ttl, uint8_t *out, size_t cap);

/* The most bytes an answer over UDP to this query may have. */
size_t dns_udp_cap(const struct dns_query *query);
/* TCP framing: 1 and *ret_len when `data` holds a whole 2-byte-length message (it starts at data +
 * 2), 0 more bytes are needed, -1 an empty message. */
int dns_tcp_message(const uint8_t *data, size_t len, size_t *ret_len);
/* Same as dns_format_answer() with the 2-byte length in front. */
size_t dns_format_answer_tcp(const struct dns_query *query, int rcode,
                             const struct in6_addr *addresses, size_t n, uint32_t ttl, uint8_t *out,
                             size_t cap);
