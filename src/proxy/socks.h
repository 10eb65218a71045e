/* SPDX-License-Identifier: Apache-2.0
 * SOCKS5 (RFC 1928) as far as a tunnel needs it: no authentication, CONNECT only.
 *
 * Pure.  A name is passed on as it came: whoever resolves it judges it. */
#pragma once

#include "base/buf.h"
#include "policy/host.h"

enum { SOCKS_VERSION = 5, SOCKS_MESSAGE_MAX = 3 + 255 + 4 };

enum socks_reply {
    SOCKS_GRANTED = 0,
    SOCKS_NOT_ALLOWED = 2,
    SOCKS_UNREACHABLE = 4,
    SOCKS_BAD_COMMAND = 7,
    SOCKS_BAD_ADDRESS = 8,
};

/* The two messages of a client: bytes used when one is complete, 0 when more are needed, -1 when it
 * is malformed. */
int socks_read_greeting(const char *data, size_t len, bool *ret_no_auth);
/* *ret_reply is SOCKS_GRANTED when host and port are good, else how to refuse. */
int socks_read_request(const char *data, size_t len, struct host *ret_host, uint16_t *ret_port,
                       enum socks_reply *ret_reply);

void socks_write_method(struct sb_buf *out, bool accepted);
void socks_write_reply(struct sb_buf *out, enum socks_reply reply);
