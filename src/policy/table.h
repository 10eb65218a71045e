/* SPDX-License-Identifier: Apache-2.0
 * A hash table of pointers, by open addressing.  Internal to policy/.
 *
 * The table neither owns nor frees what it holds, and nothing is ever taken out.  The hash stands
 * beside the pointer: a search that finds nothing touches the table alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_slot {
    uint64_t hash;
    void *entry; /* NULL: free */
};

struct table {
    struct table_slot *slots; /* a power of two, at most half full; NULL while it is empty */
    size_t nslots, used;
};

/* Asked only about entries with the same hash. */
typedef bool table_equal_fn(const void *entry, const void *key);

void *table_find(const struct table *table, uint64_t hash, table_equal_fn *equal, const void *key);
/* Adds an entry that table_find() did not find. */
void table_add(struct table *table, uint64_t hash, void *entry);
void table_done(struct table *table);

/* Goes on with a hash; begin with a random seed where the bytes come from outside. */
static inline uint64_t table_hash(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ bytes[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return hash;
}
