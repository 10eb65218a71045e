/* SPDX-License-Identifier: Apache-2.0
 * A TLS connection to the upstream proxy as a plain socket.
 *
 * What goes through that proxy is TLS again, or is spliced: both want a descriptor.  So the bytes
 * are moved between the TLS stream and one end of a socket pair, and the other end is used as if it
 * were the connection.  The relay ends when both directions have. */
#pragma once

#include "base/loop.h"
#include "policy/host.h"
#include "proxy/tls.h"

struct relay;
/* `fd` is the caller's; -1: `error` says why, valid during the call. */
typedef void relay_fn(void *arg, int fd, const char *error);

/* Takes the connected `fd` and speaks TLS as a client of `host`.  The callback comes from the loop,
 * and until then *ret may be cancelled.  NULL in *ret with an error. */
int relay_start(struct sb_loop *loop, struct tls *tls, const struct host *host, int fd,
                relay_fn *fn, void *arg, struct relay **ret, struct sb_err **err);
/* The callback will not come.  NULL is ignored. */
void relay_cancel(struct relay *relay);
