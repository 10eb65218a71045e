/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's nftables, made from inside its network namespace: every TCP connection but
 * loopback's leads to the capture port, and what is neither TCP nor DNS is refused and reported.
 *
 * They capture and tell; they keep nothing in.  Without them all else in the namespace is closed
 * too. */
#pragma once

#include <libmnl/libmnl.h>

/* 0 or -errno.  Without IPv6 there is nothing to capture there. */
int net_rules_apply(void);
/* A netlink socket (NFLOG) that says what was refused; owned by the caller.  -errno where the
 * kernel has none. */
int net_rules_refused_socket(void);

struct mnl_socket *netlink_open(int protocol);
/* Sends requests of which the last asks for an answer (NLM_F_ACK); -errno of the first refusal. */
int netlink_talk(struct mnl_socket *nl, const void *data, size_t len);
