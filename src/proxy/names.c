/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/names.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include "base/err.h"
#include "proxy/bounds.h"

enum { BUCKETS = 16384, FIRST_HOST = 16 }; /* the first addresses stay free for later needs */

struct entry {
    char *name;
    uint32_t index, next; /* in its bucket; indices count from 1, 0 is none */
    uint32_t older, newer;
};

/* Entries grow with use up to LIMIT_NAMES and are found by a seeded hash, as the names are hostile.
 */
struct names {
    struct entry *entries; /* [0] is unused */
    uint32_t count, cap;
    uint32_t oldest, newest;
    uint64_t seed;
    uint32_t *buckets; /* BUCKETS, once there is a name */
};

static const uint8_t v6_prefix[6] = NAMES_V6_PREFIX;

struct names *names_new(void)
{
    struct names *names = sb_xcalloc(1, sizeof(*names));
    if (getrandom(&names->seed, sizeof(names->seed), 0) != sizeof(names->seed)) {
        abort();
    }
    return names;
}

void names_free(struct names *names)
{
    if (!names) {
        return;
    }
    for (uint32_t i = 1; i <= names->count; i++) {
        free(names->entries[i].name);
    }
    free(names->entries);
    free(names->buckets);
    free(names);
}

static uint32_t bucket_of(const struct names *names, const char *name)
{
    uint64_t hash = names->seed;
    for (const char *c = name; *c; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return (uint32_t)(hash % BUCKETS);
}

static void list_remove(struct names *names, uint32_t index)
{
    struct entry *entry = &names->entries[index];
    *(entry->older ? &names->entries[entry->older].newer : &names->oldest) = entry->newer;
    *(entry->newer ? &names->entries[entry->newer].older : &names->newest) = entry->older;
}

static void list_append(struct names *names, uint32_t index)
{
    struct entry *entry = &names->entries[index];
    entry->older = names->newest;
    entry->newer = 0;
    *(names->newest ? &names->entries[names->newest].newer : &names->oldest) = index;
    names->newest = index;
}

static void bucket_remove(struct names *names, uint32_t index)
{
    uint32_t *link = &names->buckets[bucket_of(names, names->entries[index].name)];
    while (*link != index) {
        link = &names->entries[*link].next;
    }
    *link = names->entries[index].next;
}

static uint32_t take_entry(struct names *names)
{
    if (names->count == LIMIT_NAMES) {
        uint32_t index = names->oldest;
        bucket_remove(names, index);
        list_remove(names, index);
        free(names->entries[index].name);
        return index;
    }
    if (names->count + 1 >= names->cap) {
        names->cap = names->cap ? names->cap * 2 : 32;
        names->entries = sb_xrealloc(names->entries, names->cap, sizeof(*names->entries));
    }
    return ++names->count;
}

static uint32_t find_or_add(struct names *names, const char *name)
{
    if (!names->buckets) {
        names->buckets = sb_xcalloc(BUCKETS, sizeof(*names->buckets));
    }
    uint32_t bucket = bucket_of(names, name);
    for (uint32_t i = names->buckets[bucket]; i; i = names->entries[i].next) {
        if (strcmp(names->entries[i].name, name) == 0) {
            list_remove(names, i);
            list_append(names, i);
            return i;
        }
    }
    uint32_t index = take_entry(names);
    names->entries[index] =
        (struct entry){.name = sb_xstrdup(name), .next = names->buckets[bucket]};
    names->buckets[bucket] = index;
    list_append(names, index);
    return index;
}

void names_assign(struct names *names, const char *name, struct in6_addr *ret_v4,
                  struct in6_addr *ret_v6)
{
    uint32_t index = find_or_add(names, name);
    uint32_t number = htonl(NAMES_V4_BASE + FIRST_HOST + index);
    memset(ret_v4, 0, sizeof(*ret_v4));
    memset(&ret_v4->s6_addr[10], 0xff, 2);
    memcpy(&ret_v4->s6_addr[12], &number, sizeof(number));
    memset(ret_v6, 0, sizeof(*ret_v6));
    memcpy(ret_v6->s6_addr, v6_prefix, sizeof(v6_prefix));
    number = htonl(FIRST_HOST + index);
    memcpy(&ret_v6->s6_addr[12], &number, sizeof(number));
}

bool names_lookup(struct names *names, const struct in6_addr *address, const char **ret_name)
{
    uint32_t number;
    memcpy(&number, &address->s6_addr[12], sizeof(number));
    number = ntohl(number);
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        if ((number & NAMES_V4_MASK) != NAMES_V4_BASE) {
            return false;
        }
        number -= NAMES_V4_BASE;
    } else if (memcmp(address->s6_addr, v6_prefix, sizeof(v6_prefix)) != 0) {
        return false;
    }
    uint32_t index = number - FIRST_HOST;
    bool known = number > FIRST_HOST && index <= names->count;
    *ret_name = known ? names->entries[index].name : NULL;
    return true;
}
