/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's network namespace, made from inside it (docs/architecture.md, "The one exit"). */
#pragma once

#include "base/err.h"

enum { NET_PROXY_PORT = 3128, NET_CAPTURE_PORT = 3129 };

enum net_listener {
    NET_HTTP,
    NET_TCP4,
    NET_TCP6,
    NET_DNS_UDP,
    NET_DNS_TCP,
    NET_REFUSED, /* tells what was not TCP and not DNS */
    NET_LISTENERS,
};
extern const char *const net_listener_names[NET_LISTENERS];

/* In a new network namespace: loopback up, every address local, TCP captured, our sockets
 * listening. ret_fds[i] is negative where the kernel lacks it (IPv6, NFLOG). */
int net_setup(int ret_fds[NET_LISTENERS], struct sb_err **err);
