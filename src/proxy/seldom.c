/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/seldom.h"

#include "base/hash.h"

bool seldom_due(struct seldom *seldom, const void *what, size_t len, uint64_t now_ms)
{
    uint32_t hash = sb_hash(what, len);
    size_t slot = hash % LIMIT_SELDOM;
    uint64_t said_ms = seldom->slots[slot].said_ms;
    if (seldom->slots[slot].hash == hash && said_ms && now_ms - said_ms < LIMIT_SELDOM_MS) {
        return false;
    }
    seldom->slots[slot].hash = hash;
    seldom->slots[slot].said_ms = now_ms;
    return true;
}
