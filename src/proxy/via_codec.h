/* SPDX-License-Identifier: Apache-2.0
 * What is said to an upstream proxy before it lets bytes through: CONNECT (RFC 9110 9.3.6), or the
 * client's part of SOCKS5 (RFC 1928) with a user name and password (RFC 1929).
 *
 * Pure.  The readers answer: bytes of a complete message, 0 when more are needed, -1 when it is
 * malformed.  They never look behind the message: what follows belongs to the tunnel. */
#pragma once

#include "base/buf.h"
#include "policy/host.h"

/* `authorization`: value of Proxy-Authorization, or NULL. */
void via_write_connect(struct sb_buf *out, const struct host *host, uint16_t port,
                       const char *authorization);
int via_read_connect(const char *data, size_t len, int *ret_status);

/* *ret_method: one of these, or what the proxy said and we did not offer. */
enum { VIA_SOCKS_OPEN = 0, VIA_SOCKS_PASSWORD = 2, VIA_SOCKS_NONE = 0xff };
void via_write_methods(struct sb_buf *out, bool has_password);
int via_read_method(const char *data, size_t len, unsigned *ret_method);
/* Each at most 255 bytes. */
void via_write_password(struct sb_buf *out, const char *username, const char *password);
int via_read_password(const char *data, size_t len, bool *ret_accepted);
void via_write_target(struct sb_buf *out, const struct host *host, uint16_t port);
/* *ret_code: 0 granted, else why not; via_socks_problem() has the words. */
int via_read_target(const char *data, size_t len, unsigned *ret_code);
const char *via_socks_problem(unsigned code);
/* "host:port" with brackets where they belong; without a port when it is `usual`. */
void via_write_authority(struct sb_buf *out, const struct host *host, uint16_t port,
                         uint16_t usual);
