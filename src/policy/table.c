/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/table.h"

#include "base/err.h"

enum { FIRST_SLOTS = 64 };

void *table_find(const struct table *table, uint64_t hash, table_equal_fn *equal, const void *key)
{
    size_t mask = table->nslots - 1;
    for (size_t i = hash & mask; table->used; i = (i + 1) & mask) {
        const struct table_slot *slot = &table->slots[i];
        if (!slot->entry || (slot->hash == hash && equal(slot->entry, key))) {
            return slot->entry;
        }
    }
    return NULL;
}

static void put(const struct table *table, struct table_slot slot)
{
    size_t mask = table->nslots - 1, i = slot.hash & mask;
    while (table->slots[i].entry) {
        i = (i + 1) & mask;
    }
    table->slots[i] = slot;
}

static void grow(struct table *table)
{
    struct table bigger = {.nslots = table->nslots ? table->nslots * 2 : FIRST_SLOTS,
                           .used = table->used};
    bigger.slots = sb_xcalloc(bigger.nslots, sizeof(*bigger.slots));
    for (size_t i = 0; i < table->nslots; i++) {
        if (table->slots[i].entry) {
            put(&bigger, table->slots[i]);
        }
    }
    free(table->slots);
    *table = bigger;
}

void table_add(struct table *table, uint64_t hash, void *entry)
{
    if (table->used * 2 >= table->nslots) {
        grow(table);
    }
    put(table, (struct table_slot){.hash = hash, .entry = entry});
    table->used++;
}

void table_done(struct table *table)
{
    free(table->slots);
    *table = (struct table){0};
}
