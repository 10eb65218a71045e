/* SPDX-License-Identifier: Apache-2.0
 * The handshake of RFC 6455 towards an HTTP/1.1 origin, for a websocket that HTTP/2 asked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* 24 characters and a terminator, from the kernel's randomness. */
void websocket_key(char ret[25]);
/* Is this the answer to that key? */
bool websocket_accepts(const char key[25], const char *accept, size_t accept_len);
