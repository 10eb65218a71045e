/* SPDX-License-Identifier: Apache-2.0
 * What the kernel says of packets that it refused (NFLOG): where they were for.
 *
 * Pure.  The kernel wrote the message and the packet's head, the sandbox the rest: every length is
 * checked. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nflog_packet {
    struct in6_addr to; /* IPv4 as ::ffff:a.b.c.d */
    uint8_t protocol;   /* IPPROTO_UDP ... */
    uint16_t port;      /* 0: the protocol has none, or it was not found */
};

/* The next packet of the netlink messages in (*at, *left), which move on; false when there is no
 * more. */
bool nflog_next(const uint8_t **at, size_t *left, struct nflog_packet *ret);
