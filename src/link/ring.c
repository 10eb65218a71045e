/* SPDX-License-Identifier: Apache-2.0 */
#include "link/ring.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void ring_done(struct ring *ring)
{
    free(ring->data);
    *ring = (struct ring){0};
}

static void enlarge(struct ring *ring, size_t cap)
{
    struct iovec parts[2];
    int count = ring_peek(ring, parts);
    char *data = sb_xcalloc(1, cap);
    size_t len = 0;
    for (int i = 0; i < count; i++) {
        memcpy(data + len, parts[i].iov_base, parts[i].iov_len);
        len += parts[i].iov_len;
    }
    free(ring->data);
    *ring = (struct ring){.data = data, .cap = cap, .len = len};
}

void ring_put(struct ring *ring, const void *bytes, size_t len, size_t max)
{
    assert(ring->len + len <= max);
    if (ring->len + len > ring->cap) {
        enlarge(ring, max);
    }
    size_t tail = (ring->head + ring->len) % ring->cap;
    size_t first = ring->cap - tail < len ? ring->cap - tail : len;
    memcpy(ring->data + tail, bytes, first);
    memcpy(ring->data, (const char *)bytes + first, len - first);
    ring->len += len;
}

int ring_peek(const struct ring *ring, struct iovec parts[2])
{
    if (!ring->len) {
        return 0;
    }
    size_t first = ring->cap - ring->head < ring->len ? ring->cap - ring->head : ring->len;
    parts[0] = (struct iovec){.iov_base = ring->data + ring->head, .iov_len = first};
    parts[1] = (struct iovec){.iov_base = ring->data, .iov_len = ring->len - first};
    return first < ring->len ? 2 : 1;
}

void ring_take(struct ring *ring, size_t len)
{
    assert(len <= ring->len);
    ring->len -= len;
    ring->head = ring->len ? (ring->head + len) % ring->cap : 0;
}
