/* SPDX-License-Identifier: Apache-2.0
 * A set of rules and the decision over them.
 *
 * All rules live in one hash table whose key is everything that a rule compares: kind, port, prefix
 * and name or network.  A decision asks for each key that could cover the host: the name itself,
 * each parent as "*." and "**.", each prefix length in use, everything; each with the port and
 * without. So its cost depends on the number of labels, never on the number of rules.  Rules with
 * one key (several origins, allow beside deny) form a chain, which duplicates cannot lengthen.
 *
 * The policy owns its rules; decisions borrow them. */
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "policy/pattern.h"

enum { RULES_MAX = 1000000, LINE_MAX_BYTES = 2048 };

struct rule {
    struct policy_rule public; /* first: decisions point to it */
    struct rule *next;         /* of the same key */
    uint64_t hash;
    enum pattern_kind kind;
    uint8_t prefix;
    uint16_t port;
    bool from_user; /* written by the person, not by a kit or preset */
    char *name;     /* canonical; owned */
    struct in6_addr network;
};

struct policy {
    struct rule **rules; /* in the order of adding */
    size_t count, cap;
    struct rule **slots; /* open addressing, a power of two, at most half full */
    size_t nslots, used;
    uint64_t seed;
    uint64_t prefixes[3]; /* bit set of the CIDR prefix lengths in use */
};

struct key {
    enum pattern_kind kind;
    uint8_t prefix;
    uint16_t port;
    const char *name;               /* EXACT, ONE, MANY */
    const struct in6_addr *network; /* CIDR */
};

struct policy *policy_new(void)
{
    struct policy *policy = sb_xcalloc(1, sizeof(*policy));
    /* A kit must not be able to choose names that collide.  Without randomness only that is lost.
     */
    if (getrandom(&policy->seed, sizeof(policy->seed), GRND_NONBLOCK) < 0) {
        policy->seed = (uint64_t)(uintptr_t)policy;
    }
    policy->nslots = 64;
    policy->slots = sb_xcalloc(policy->nslots, sizeof(struct rule *));
    return policy;
}

static void rule_free(struct rule *rule)
{
    if (!rule) {
        return;
    }
    free(rule->public.text);
    free(rule->public.id);
    free(rule->public.origin);
    free(rule->name);
    free(rule);
}

void policy_free(struct policy *policy)
{
    if (!policy) {
        return;
    }
    for (size_t i = 0; i < policy->count; i++) {
        rule_free(policy->rules[i]);
    }
    free(policy->rules);
    free(policy->slots);
    free(policy);
}

static uint64_t mix(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ bytes[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return hash;
}

static uint64_t key_hash(const struct policy *policy, const struct key *key)
{
    uint8_t head[4] = {(uint8_t)key->kind, key->prefix, (uint8_t)(key->port >> 8),
                       (uint8_t)key->port};
    uint64_t hash = mix(policy->seed, head, sizeof(head));
    if (key->kind == PATTERN_CIDR) {
        return mix(hash, key->network, sizeof(*key->network));
    }
    return key->kind == PATTERN_ALL ? hash : mix(hash, key->name, strlen(key->name));
}

static bool key_equal(const struct rule *rule, const struct key *key)
{
    if (rule->kind != key->kind || rule->port != key->port || rule->prefix != key->prefix) {
        return false;
    }
    if (key->kind == PATTERN_CIDR) {
        return IN6_ARE_ADDR_EQUAL(&rule->network, key->network);
    }
    return key->kind == PATTERN_ALL || strcmp(rule->name, key->name) == 0;
}

/* The slot that holds the key's chain, or the empty slot where it belongs. */
static struct rule **find_slot(const struct policy *policy, const struct key *key, uint64_t hash)
{
    size_t mask = policy->nslots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct rule **slot = &policy->slots[i];
        if (!*slot || ((*slot)->hash == hash && key_equal(*slot, key))) {
            return slot;
        }
    }
}

static void grow(struct policy *policy)
{
    size_t old_count = policy->nslots;
    SB_CLEANUP(free) struct rule **old = policy->slots;
    policy->nslots *= 2;
    policy->slots = sb_xcalloc(policy->nslots, sizeof(struct rule *));
    for (size_t i = 0; i < old_count; i++) {
        if (!old[i]) {
            continue;
        }
        size_t at = old[i]->hash & (policy->nslots - 1);
        while (policy->slots[at]) {
            at = (at + 1) & (policy->nslots - 1);
        }
        policy->slots[at] = old[i];
    }
}

static struct key rule_key(const struct rule *rule)
{
    return (struct key){.kind = rule->kind,
                        .prefix = rule->prefix,
                        .port = rule->port,
                        .name = rule->name,
                        .network = &rule->network};
}

/* Takes the rule, or drops it when the same text from the same origin is there already. */
static void insert(struct policy *policy, struct rule *rule)
{
    struct key key = rule_key(rule);
    rule->hash = key_hash(policy, &key);
    struct rule **slot = find_slot(policy, &key, rule->hash);
    for (struct rule *r = *slot; r; r = r->next) {
        if (r->public.allow == rule->public.allow &&
            strcmp(r->public.origin, rule->public.origin) == 0) {
            rule_free(rule);
            return;
        }
    }
    policy->used += !*slot;
    rule->next = *slot;
    *slot = rule;
    if (rule->kind == PATTERN_CIDR) {
        policy->prefixes[rule->prefix / 64] |= UINT64_C(1) << (rule->prefix % 64);
    }
    if (policy->count == policy->cap) {
        policy->cap = policy->cap ? policy->cap * 2 : 64;
        policy->rules = sb_xrealloc(policy->rules, policy->cap, sizeof(struct rule *));
    }
    policy->rules[policy->count++] = rule;
    if (policy->used * 2 > policy->nslots) {
        grow(policy);
    }
}

void policy_rule_id(const char *text, const char *origin, char ret[POLICY_ID_MAX])
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a: ids must be the same for ever */
    const char *parts[] = {origin, "\n", text};
    for (size_t i = 0; i < SB_ARRAY_LEN(parts); i++) {
        for (const char *p = parts[i]; *p; p++) {
            hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
        }
    }
    snprintf(ret, POLICY_ID_MAX, "%08x", (unsigned)(hash >> 32));
}

/* Adds the place of an error in a rule line; control bytes must not reach a terminal. */
static void set_excerpt(struct sb_err **err, const char *line, size_t offset)
{
    if (!err || !*err) {
        return;
    }
    SB_CLEANUP(free) char *excerpt = sb_xstrndup(line, LINE_MAX_BYTES);
    for (char *p = excerpt; *p; p++) {
        if ((*p < ' ' && *p != '\t' && *p > 0) || *p == 0x7f) {
            *p = '?';
        }
    }
    struct sb_place *place = &(*err)->place;
    sb_err_set_place(err, NULL, 1, place->column + offset, place->length, excerpt);
}

static size_t skip_blank(const char *line, size_t at)
{
    return at + strspn(line + at, " \t");
}

/* Splits "allow PATTERN" and parses the pattern. */
static int line_parse(const char *line, bool *ret_allow, struct pattern *ret, struct sb_err **err)
{
    size_t n = strlen(line);
    if (n > LINE_MAX_BYTES) {
        return sb_fail(err, SB_ELIMIT, "a rule is longer than %d bytes", LINE_MAX_BYTES);
    }
    while (n && strchr(" \t\r\n", line[n - 1])) {
        n--;
    }
    size_t verb = skip_blank(line, 0), verb_len = strcspn(line + verb, " \t\r\n");
    bool allow = verb_len == 5 && memcmp(line + verb, "allow", 5) == 0;
    if (!allow && !(verb_len == 4 && memcmp(line + verb, "deny", 4) == 0)) {
        int r = sb_fail(err, SB_EUSAGE, "a rule begins with 'allow' or 'deny'");
        sb_err_set_place(err, NULL, 1, 1, verb_len, NULL);
        set_excerpt(err, line, verb);
        return r;
    }
    size_t at = skip_blank(line, verb + verb_len);
    int r = pattern_parse(line + at, n > at ? n - at : 0, ret, err);
    if (r < 0) {
        set_excerpt(err, line, at);
        return r;
    }
    *ret_allow = allow;
    return 0;
}

int policy_canonical_line(const char *line, char **ret, struct sb_err **err)
{
    struct pattern pattern;
    bool allow;
    int r = line_parse(line, &allow, &pattern, err);
    if (r < 0) {
        return r;
    }
    char text[PATTERN_TEXT_MAX];
    pattern_format(&pattern, text);
    *ret = sb_xasprintf("%s %s", allow ? "allow" : "deny", text);
    return 0;
}

int policy_add(struct policy *policy, const char *line, const char *origin, const char *id,
               struct sb_err **err)
{
    struct pattern pattern;
    bool allow;
    int r = line_parse(line, &allow, &pattern, err);
    if (r < 0) {
        return r;
    }
    if (policy->count >= RULES_MAX) {
        return sb_fail(err, SB_ELIMIT, "more than %d rules", RULES_MAX);
    }
    char text[PATTERN_TEXT_MAX];
    pattern_format(&pattern, text);
    struct rule *rule = sb_xcalloc(1, sizeof(*rule));
    rule->public.allow = allow;
    rule->public.text = sb_xasprintf("%s %s", allow ? "allow" : "deny", text);
    rule->public.origin = sb_xstrdup(origin);
    char computed[POLICY_ID_MAX];
    policy_rule_id(rule->public.text, origin, computed);
    rule->public.id = sb_xstrdup(id ? id : computed);
    rule->kind = pattern.kind;
    rule->prefix = pattern.prefix;
    rule->port = pattern.port;
    rule->network = pattern.host.address;
    rule->name = sb_xstrdup(pattern.host.text);
    rule->from_user = strcmp(origin, "global") == 0 || strcmp(origin, "sandbox") == 0;
    insert(policy, rule);
    return 0;
}

size_t policy_count(const struct policy *policy)
{
    return policy->count;
}

const struct policy_rule *policy_rule_at(const struct policy *policy, size_t index)
{
    return &policy->rules[index]->public;
}

/* What a search has found so far.  Keys are asked from the most to the least particular, so the
 * first allow rule is the one to name; a deny rule ends the search. */
struct search {
    const struct policy *policy;
    uint16_t port;
    const struct rule *allow, *deny;
};

static void search_key(struct search *search, struct key key)
{
    for (int with_port = 1; with_port >= 0 && !search->deny; with_port--) {
        key.port = with_port ? search->port : 0;
        const struct rule *rule = *find_slot(search->policy, &key, key_hash(search->policy, &key));
        const struct rule *allow = NULL;
        for (; rule; rule = rule->next) {
            if (!rule->public.allow) {
                search->deny = rule;
                return;
            }
            if (!allow || rule->from_user) {
                allow = rule;
            }
        }
        /* Among equally particular rules the person's own speaks: it may lead to private addresses.
         */
        bool better = allow && (!search->allow ||
                                (search->allow->kind == key.kind && key.kind == PATTERN_EXACT &&
                                 allow->from_user && !search->allow->from_user));
        if (better) {
            search->allow = allow;
        }
        if (!search->port) {
            return; /* port 0 asks for rules without a port only */
        }
    }
}

/* Longest prefix first: the most particular network is the one to name. */
static void search_networks(struct search *search, const struct host *host)
{
    bool v4 = IN6_IS_ADDR_V4MAPPED(&host->address);
    for (int prefix = 128; prefix >= (v4 ? 96 : 0) && !search->deny; prefix--) {
        if (!(search->policy->prefixes[prefix / 64] >> (prefix % 64) & 1)) {
            continue;
        }
        struct in6_addr network = host->address;
        address_mask(&network, (unsigned)prefix);
        search_key(
            search,
            (struct key){.kind = PATTERN_CIDR, .prefix = (uint8_t)prefix, .network = &network});
    }
}

static void search_parents(struct search *search, const struct host *host)
{
    const char *dot = strchr(host->text, '.');
    if (dot) {
        search_key(search, (struct key){.kind = PATTERN_ONE, .name = dot + 1});
    }
    for (; dot && !search->deny; dot = strchr(dot + 1, '.')) {
        search_key(search, (struct key){.kind = PATTERN_MANY, .name = dot + 1});
    }
}

static void search_host(struct search *search, const struct host *host)
{
    search_key(search, (struct key){.kind = PATTERN_EXACT, .name = host->text});
    if (host->is_address) {
        search_networks(search, host);
    } else {
        search_parents(search, host);
    }
}

void policy_decide(const struct policy *policy, const struct host *host, uint16_t port,
                   struct policy_decision *ret)
{
    struct search search = {.policy = policy, .port = port};
    search_host(&search, host);
    if (!search.deny) {
        search_key(&search, (struct key){.kind = PATTERN_ALL});
    }
    const struct rule *rule = search.deny ? search.deny : search.allow;
    *ret = (struct policy_decision){
        .allow = rule && !search.deny,
        .rule = rule ? &rule->public : NULL,
        .exact = rule && !search.deny && rule->kind == PATTERN_EXACT,
    };
}

/* The rules that name the address itself or a network around it; the address that a transition
 * mechanism hides counts as well. */
static struct search search_address(const struct policy *policy, const struct in6_addr *address,
                                    uint16_t port)
{
    struct search search = {.policy = policy, .port = port};
    struct host host;
    host_from_address(address, &host);
    search_host(&search, &host);
    struct in6_addr plain;
    address_unwrap(address, &plain);
    if (!search.deny && !IN6_ARE_ADDR_EQUAL(&plain, address)) {
        host_from_address(&plain, &host);
        search_host(&search, &host);
    }
    return search;
}

bool policy_allows_address(const struct policy *policy, const struct policy_decision *by_name,
                           const struct in6_addr *address, uint16_t port)
{
    struct search search = search_address(policy, address, port);
    if (!by_name->allow || search.deny) {
        return false;
    }
    const struct rule *name_rule = (const struct rule *)(const void *)by_name->rule;
    bool named_by_user = by_name->exact && name_rule->from_user;
    enum address_class class = address_classify(address);
    switch (class) {
    case ADDRESS_PUBLIC:
        return true;
    case ADDRESS_PRIVATE:
        return named_by_user ||
               (search.allow && (search.allow->kind == PATTERN_CIDR || search.allow->from_user));
    default:
        break;
    }
    if (class == ADDRESS_LOOPBACK && by_name->exact && strcmp(name_rule->name, "localhost") == 0) {
        return true;
    }
    return search.allow && search.allow->kind == PATTERN_EXACT && search.allow->from_user;
}

bool policy_pattern_matches(const char *pattern, const struct host *host, uint16_t port)
{
    struct pattern parsed;
    return pattern_parse(pattern, strnlen(pattern, LINE_MAX_BYTES), &parsed, NULL) == 0 &&
           pattern_matches(&parsed, host, port);
}
