/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/index.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "policy/path.h"

struct key {
    uint64_t hash;
    size_t len;
    unsigned char bytes[2 + HOST_MAX + sizeof(void *)];
};

/* ---- keys and places ---- */

/* A name is hashed from its end, so that one pass over a host gives those of all its parents. */
static uint64_t hash_name(uint64_t hash, const char *from, const char *to)
{
    while (to > from) {
        hash = table_hash(hash, --to, 1);
    }
    return hash;
}

/* `hash`: of the name alone. */
static void key_of_hashed(struct key *key, enum pattern_kind kind, const char *name, uint64_t hash)
{
    size_t n = strlen(name);
    key->bytes[0] = (unsigned char)kind;
    memcpy(&key->bytes[1], name, n);
    key->len = 1 + n;
    key->hash = table_hash(hash, key->bytes, 1);
}

static void key_of_name(const struct index *index, struct key *key, enum pattern_kind kind,
                        const char *name)
{
    key_of_hashed(key, kind, name, hash_name(index->seed, name, name + strlen(name)));
}

static void key_of_network(const struct index *index, struct key *key, uint8_t prefix,
                           const struct in6_addr *network)
{
    key->bytes[0] = PATTERN_CIDR;
    key->bytes[1] = prefix;
    memcpy(&key->bytes[2], network, sizeof(*network));
    key->len = 2 + sizeof(*network);
    key->hash = table_hash(index->seed, key->bytes, key->len);
}

static void key_of_pattern(const struct index *index, struct key *key,
                           const struct pattern *pattern)
{
    if (pattern->kind == PATTERN_CIDR) {
        key_of_network(index, key, pattern->prefix, &pattern->host.address);
    } else {
        key_of_name(index, key, pattern->kind, pattern->host.text);
    }
}

/* The beginning of a path under a host's place.  Letters are folded for the deny rules, which do
 * not tell upper from lower case. */
static void key_of_path(const struct index *index, struct key *key, const struct place *place,
                        const char *path, size_t n)
{
    uintptr_t where = (uintptr_t)place;
    key->bytes[0] = UINT8_MAX; /* no kind of a pattern */
    memcpy(&key->bytes[1], &where, sizeof(where));
    key->len = 1 + sizeof(where);
    for (size_t i = 0; i < n; i++) {
        key->bytes[key->len++] = (unsigned char)tolower((unsigned char)path[i]);
    }
    key->hash = table_hash(index->seed, key->bytes, key->len);
}

static bool place_equal(const void *entry, const void *wanted)
{
    const struct place *place = entry;
    const struct key *key = wanted;
    return place->key_len == key->len && memcmp(place->key, key->bytes, key->len) == 0;
}

static struct place *place_find(const struct index *index, const struct key *key)
{
    return table_find(&index->places, key->hash, place_equal, key);
}

static struct place *place_make(struct index *index, const struct key *key)
{
    struct place *place = place_find(index, key);
    if (!place) {
        place = sb_xcalloc(1, sizeof(*place) + key->len);
        place->key_len = key->len;
        memcpy(place->key, key->bytes, key->len);
        table_add(&index->places, key->hash, place);
    }
    return place;
}

void index_done(struct index *index)
{
    for (size_t i = 0; i < index->places.nslots; i++) {
        free(index->places.slots[i].entry);
    }
    table_done(&index->places);
}

/* ---- building ---- */

/* A mark stands for this rule when it says the same about whatever the rule is about. */
static bool mark_stands_for(const struct node *mark, const struct node *node)
{
    return mark->public.allow == node->public.allow && !mark->nexcept &&
           mark->from_user >= node->from_user && !(node->methods & ~mark->methods) &&
           mark->ports.first <= node->ports.first && mark->ports.last >= node->ports.last;
}

static void add_mark(struct place *place, struct node *node)
{
    for (const struct node *mark = place->marks; mark; mark = mark->next_mark) {
        if (mark_stands_for(mark, node)) {
            return;
        }
    }
    node->next_mark = place->marks;
    place->marks = node;
}

void index_add(struct index *index, struct node *node, const struct pattern *pattern)
{
    struct key key;
    key_of_pattern(index, &key, pattern);
    struct place *place = place_make(index, &key);
    if (pattern->kind == PATTERN_CIDR) {
        index->prefixes[pattern->prefix / 64] |= UINT64_C(1) << (pattern->prefix % 64);
    }
    index->has_inner |= pattern->kind == PATTERN_INNER;
    if (node->methods) {
        size_t depth, n = path_glob_prefix(node->path, INDEX_DEPTH_MAX, INDEX_PATH_MAX, &depth);
        add_mark(place, node);
        key_of_path(index, &key, place, node->path, n);
        place = place_make(index, &key);
        index->depths |= 1U << depth;
    }
    node->next = place->rules;
    place->rules = node;
}

/* ---- searching ---- */

static bool visit(const struct index *index, const struct key *key, index_visit_fn *fn, void *arg)
{
    const struct place *place = place_find(index, key);
    return place && fn(arg, place);
}

/* Longest prefix first: the most particular network is the one to name. */
static bool visit_networks(const struct index *index, const struct host *host, struct key *key,
                           index_visit_fn *fn, void *arg)
{
    bool v4 = IN6_IS_ADDR_V4MAPPED(&host->address);
    for (int prefix = 128; prefix >= (v4 ? 96 : 0); prefix--) {
        if (!(index->prefixes[prefix / 64] >> (prefix % 64) & 1)) {
            continue;
        }
        struct in6_addr network = host->address;
        address_mask(&network, (unsigned)prefix);
        key_of_network(index, key, (uint8_t)prefix, &network);
        if (visit(index, key, fn, arg)) {
            return true;
        }
    }
    return false;
}

static bool visit_inner(const struct index *index, const struct host *host, struct key *key,
                        index_visit_fn *fn, void *arg)
{
    const char *begin = strchr(host->text, '.');
    for (const char *end; begin && (end = strchr(begin + 1, '.')); begin = end) {
        char name[HOST_MAX + 1]; /* a label has at least the length of its star */
        snprintf(name, sizeof(name), "%.*s.*%s", (int)(begin - host->text), host->text, end);
        key_of_name(index, key, PATTERN_INNER, name);
        if (visit(index, key, fn, arg)) {
            return true;
        }
    }
    return false;
}

static bool visit_parents(const struct index *index, const struct host *host, struct key *key,
                          index_visit_fn *fn, void *arg)
{
    struct {
        const char *name;
        uint64_t hash;
    } parents[HOST_MAX / 2];
    size_t count = 0;
    const char *end = strchr(host->text, '\0');
    uint64_t hash = index->seed;
    for (const char *dot; (dot = memrchr(host->text, '.', (size_t)(end - host->text))); end = dot) {
        hash = hash_name(hash, dot + 1, end);
        assert(count < SB_ARRAY_LEN(parents));
        parents[count].name = dot + 1;
        parents[count++].hash = hash;
        hash = hash_name(hash, dot, dot + 1);
    }
    for (size_t i = count; i > 0; i--) {
        if (i == count) {
            key_of_hashed(key, PATTERN_ONE, parents[i - 1].name, parents[i - 1].hash);
            if (visit(index, key, fn, arg)) {
                return true;
            }
        }
        key_of_hashed(key, PATTERN_MANY, parents[i - 1].name, parents[i - 1].hash);
        if (visit(index, key, fn, arg)) {
            return true;
        }
    }
    return false;
}

void index_visit(const struct index *index, const struct host *host, index_visit_fn *fn, void *arg)
{
    struct key key;
    key_of_name(index, &key, PATTERN_EXACT, host->text);
    if (visit(index, &key, fn, arg)) {
        return;
    }
    if (index->has_inner && !host->is_address && visit_inner(index, host, &key, fn, arg)) {
        return;
    }
    if (host->is_address ? visit_networks(index, host, &key, fn, arg)
                         : visit_parents(index, host, &key, fn, arg)) {
        return;
    }
    key_of_name(index, &key, PATTERN_ALL, "");
    visit(index, &key, fn, arg);
}

const struct place *index_path(const struct index *index, const struct place *place,
                               const char *path, size_t n)
{
    struct key key;
    key_of_path(index, &key, place, path, n);
    return place_find(index, &key);
}
