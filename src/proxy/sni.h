/* SPDX-License-Identifier: Apache-2.0
 * The server name of a TLS ClientHello (RFC 8446, RFC 6066), read without terminating TLS.
 *
 * Pure and allocation-free.  Nothing here trusts the name: it is a claim of the sandbox. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SNI_HELLO_MAX = 16 * 1024,         /* handshake bytes of a ClientHello */
    SNI_INPUT_MAX = SNI_HELLO_MAX * 6, /* with one 5-byte record header for each single byte */
};

/* `data` is all that has been received so far, from the first byte.  1 complete: *ret_has_name, and
 * ret_host is the lower-case NUL-terminated name when there is one; 0 more bytes are needed; -1 not
 * TLS, malformed, or a name with bytes that no host name has. */
int sni_parse(const uint8_t *data, size_t len, char ret_host[256], bool *ret_has_name);
