/* SPDX-License-Identifier: Apache-2.0
 * Connects to the first of some addresses that answers.
 *
 * It is the only place that opens a connection from the host's network. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

#include "base/loop.h"
#include "proxy/bounds.h"

/* `fd` is the caller's; -1: none answered, `errnum` is of the last try (0: none was permitted). */
typedef void dial_fn(void *arg, int fd, int errnum);
typedef bool dial_permits_fn(void *arg, const struct in6_addr *address);

struct dial {
    struct sb_loop *loop; /* NULL: nothing under way */
    struct in6_addr addresses[LIMIT_ADDRESSES];
    size_t count, next;
    uint16_t port;
    int fd, last_errno;
    sb_watch watch;
    struct sb_timer timer;
    dial_permits_fn *permits;
    dial_fn *fn;
    void *arg;
};

/* `permits` (NULL: all) is asked right before each address is tried.  The callback comes from the
 * loop or from within. */
void dial_start(struct dial *dial, struct sb_loop *loop, const struct in6_addr *addresses,
                size_t count, uint16_t port, dial_permits_fn *permits, dial_fn *fn, void *arg);
/* Stops; the callback will not come.  Safe on a zeroed or finished one. */
void dial_cancel(struct dial *dial);
