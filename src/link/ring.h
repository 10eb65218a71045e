/* SPDX-License-Identifier: Apache-2.0
 * Bytes that wait for the reader of a stream.  The owner says how many there may be. */
#pragma once

#include <stddef.h>
#include <sys/uio.h>

struct ring {
    char *data;
    size_t cap, head, len;
};

void ring_done(struct ring *ring);
/* Appends `len` bytes; with them there are at most `max`. */
void ring_put(struct ring *ring, const void *bytes, size_t len, size_t max);
/* The bytes in their order, in one or two parts (their number is returned). */
int ring_peek(const struct ring *ring, struct iovec parts[2]);
void ring_take(struct ring *ring, size_t len);
