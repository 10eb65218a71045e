/* SPDX-License-Identifier: Apache-2.0
 * A set of rules and the decision over them.
 *
 * Theory of operation.  Rules that name the same host pattern, whatever their ports, share a place.
 * Places lie in a hash table whose key is all that a pattern compares: kind, prefix, and name or
 * network.  A decision asks for each key that could cover the host: the name itself, each parent as
 * "*." and "**.", itself with '*' for a label (when any rule has that), each prefix length in use,
 * everything.  So its cost depends on the number of labels, never on the number of rules.
 *
 * HTTP rules of a place are found the same way by their path: the key is the place and the segments
 * before the first '*', so a request asks for each beginning of its path.  A place also has marks:
 * a few of its HTTP rules that stand for all of them when the request is not known.
 *
 * The policy owns its rules; decisions borrow them. */
#include "policy/policy.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "policy/git_service.h"
#include "policy/rule.h"
#include "policy/table.h"

enum {
    /* Segments and bytes of a path that the index looks at. */
    DEPTH_MAX = 8,
    PATH_KEY_MAX = 200,
};

struct node {
    struct policy_rule public;
    struct node *next, *next_mark; /* of the same place */
    enum pattern_kind kind;
    struct ports ports;
    uint16_t methods;
    bool from_user; /* written by the person, not by a kit or preset */
    bool localhost; /* names exactly that */
    char *path;     /* owned; NULL in a network rule */
    struct pattern *except;
    size_t nexcept;
    char id[POLICY_ID_MAX];
    char text[];
};

struct place {
    struct node *rules; /* the network rules of a pattern, or the HTTP rules of a path */
    struct node *marks; /* of a pattern */
    size_t key_len;
    unsigned char key[];
};

struct key {
    uint64_t hash;
    size_t len;
    unsigned char bytes[2 + HOST_MAX + sizeof(void *)];
};

struct policy {
    struct node **rules; /* in the order of adding */
    size_t count, cap;
    struct table places, known; /* by key; by origin and text */
    char **origins;
    size_t norigins;
    uint64_t seed;
    uint64_t prefixes[3]; /* bit set of the CIDR prefix lengths in use */
    bool has_inner;       /* a pattern has its star between names */
    unsigned depths;      /* bit set of the path lengths that HTTP rules are found by */
};

struct policy *policy_new(void)
{
    struct policy *policy = sb_xcalloc(1, sizeof(*policy));
    /* A kit must not be able to choose names that collide.  Without randomness only that is lost.
     */
    if (getrandom(&policy->seed, sizeof(policy->seed), GRND_NONBLOCK) < 0) {
        policy->seed = (uint64_t)(uintptr_t)policy;
    }
    return policy;
}

static void node_free(struct node *node)
{
    free(node->path);
    free(node->except);
    free(node);
}

void policy_free(struct policy *policy)
{
    if (!policy) {
        return;
    }
    for (size_t i = 0; i < policy->count; i++) {
        node_free(policy->rules[i]);
    }
    for (size_t i = 0; i < policy->places.nslots; i++) {
        free(policy->places.slots[i].entry);
    }
    for (size_t i = 0; i < policy->norigins; i++) {
        free(policy->origins[i]);
    }
    table_done(&policy->places);
    table_done(&policy->known);
    free(policy->origins);
    free(policy->rules);
    free(policy);
}

/* The node whose public part this is. */
static const struct node *node_of(const struct policy_rule *rule)
{
    return (const struct node *)(const void *)((const char *)rule - offsetof(struct node, public));
}

/* ---- places ---- */

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

static void key_of_name(const struct policy *policy, struct key *key, enum pattern_kind kind,
                        const char *name)
{
    key_of_hashed(key, kind, name, hash_name(policy->seed, name, name + strlen(name)));
}

static void key_of_network(const struct policy *policy, struct key *key, uint8_t prefix,
                           const struct in6_addr *network)
{
    key->bytes[0] = PATTERN_CIDR;
    key->bytes[1] = prefix;
    memcpy(&key->bytes[2], network, sizeof(*network));
    key->len = 2 + sizeof(*network);
    key->hash = table_hash(policy->seed, key->bytes, key->len);
}

static void key_of_pattern(const struct policy *policy, struct key *key,
                           const struct pattern *pattern)
{
    if (pattern->kind == PATTERN_CIDR) {
        key_of_network(policy, key, pattern->prefix, &pattern->host.address);
    } else {
        key_of_name(policy, key, pattern->kind, pattern->host.text);
    }
}

/* The beginning of a path under a host's place.  Letters are folded for the deny rules, which do
 * not tell upper from lower case. */
static void key_of_path(const struct policy *policy, struct key *key, const struct place *place,
                        const char *path, size_t n)
{
    uintptr_t where = (uintptr_t)place;
    key->bytes[0] = UINT8_MAX; /* no kind of a pattern */
    memcpy(&key->bytes[1], &where, sizeof(where));
    key->len = 1 + sizeof(where);
    for (size_t i = 0; i < n; i++) {
        key->bytes[key->len++] = (unsigned char)tolower((unsigned char)path[i]);
    }
    key->hash = table_hash(policy->seed, key->bytes, key->len);
}

static bool place_equal(const void *entry, const void *wanted)
{
    const struct place *place = entry;
    const struct key *key = wanted;
    return place->key_len == key->len && memcmp(place->key, key->bytes, key->len) == 0;
}

static struct place *place_find(const struct policy *policy, const struct key *key)
{
    return table_find(&policy->places, key->hash, place_equal, key);
}

static struct place *place_make(struct policy *policy, const struct key *key)
{
    struct place *place = place_find(policy, key);
    if (!place) {
        place = sb_xcalloc(1, sizeof(*place) + key->len);
        place->key_len = key->len;
        memcpy(place->key, key->bytes, key->len);
        table_add(&policy->places, key->hash, place);
    }
    return place;
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

static void put(struct policy *policy, struct node *node, const struct pattern *pattern)
{
    struct key key;
    key_of_pattern(policy, &key, pattern);
    struct place *place = place_make(policy, &key);
    if (pattern->kind == PATTERN_CIDR) {
        policy->prefixes[pattern->prefix / 64] |= UINT64_C(1) << (pattern->prefix % 64);
    }
    policy->has_inner |= pattern->kind == PATTERN_INNER;
    if (node->methods) {
        size_t depth, n = path_glob_prefix(node->path, DEPTH_MAX, PATH_KEY_MAX, &depth);
        add_mark(place, node);
        key_of_path(policy, &key, place, node->path, n);
        place = place_make(policy, &key);
        policy->depths |= 1U << depth;
    }
    node->next = place->rules;
    place->rules = node;
    if (policy->count == policy->cap) {
        policy->cap = policy->cap ? policy->cap * 2 : 64;
        policy->rules = sb_xrealloc(policy->rules, policy->cap, sizeof(struct node *));
    }
    policy->rules[policy->count++] = node;
}

/* There are few origins; each is kept once. */
static const char *intern_origin(struct policy *policy, const char *origin)
{
    for (size_t i = policy->norigins; i > 0; i--) {
        if (strcmp(policy->origins[i - 1], origin) == 0) {
            return policy->origins[i - 1];
        }
    }
    policy->origins = sb_xrealloc(policy->origins, policy->norigins + 1, sizeof(char *));
    policy->origins[policy->norigins] = sb_xstrdup(origin);
    return policy->origins[policy->norigins++];
}

static bool known_equal(const void *entry, const void *wanted)
{
    const struct node *node = entry, *other = wanted;
    return node->public.origin == other->public.origin &&
           strcmp(node->public.text, other->public.text) == 0;
}

/* Takes path and exceptions out of the rule. */
static struct node *node_new(struct rule *rule, const char *origin, const char *id)
{
    size_t n = strlen(rule->text) + 1;
    struct node *node = sb_xcalloc(1, sizeof(*node) + n);
    memcpy(node->text, rule->text, n);
    policy_rule_id(rule->text, origin, node->id);
    if (id) {
        snprintf(node->id, sizeof(node->id), "%s", id);
    }
    node->public = (struct policy_rule){
        .text = node->text, .id = node->id, .origin = origin, .allow = rule->allow};
    node->kind = rule->pattern.kind;
    node->ports = rule->pattern.ports;
    node->methods = rule->methods;
    node->from_user = strcmp(origin, "global") == 0 || strcmp(origin, "sandbox") == 0;
    node->localhost =
        node->kind == PATTERN_EXACT && strcmp(rule->pattern.host.text, "localhost") == 0;
    node->path = sb_steal(&rule->path);
    node->except = sb_steal(&rule->except);
    node->nexcept = rule->nexcept;
    return node;
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

int policy_canonical_line(const char *line, char **ret, struct sb_err **err)
{
    SB_CLEANUP(rule) struct rule rule = {0};
    int r = rule_parse(line, &rule, err);
    if (r < 0) {
        return r;
    }
    *ret = sb_steal(&rule.text);
    return 0;
}

int policy_add(struct policy *policy, const char *line, const char *origin, const char *id,
               struct sb_err **err)
{
    SB_CLEANUP(rule) struct rule rule = {0};
    int r = rule_parse(line, &rule, err);
    if (r < 0) {
        return r;
    }
    if (policy->count >= POLICY_RULES_MAX) {
        return sb_fail(err, SB_ELIMIT, "more than %d rules", POLICY_RULES_MAX);
    }
    struct node *node = node_new(&rule, intern_origin(policy, origin), id);
    uint64_t hash = table_hash(policy->seed, &node->public.origin, sizeof(node->public.origin));
    hash = table_hash(hash, node->text, strlen(node->text));
    if (table_find(&policy->known, hash, known_equal, node)) {
        node_free(node);
        return 0;
    }
    table_add(&policy->known, hash, node);
    put(policy, node, &rule.pattern);
    return 0;
}

size_t policy_count(const struct policy *policy)
{
    return policy->count;
}

bool policy_has_http_rules(const struct policy *policy)
{
    return policy->depths != 0;
}

/* ---- the places that cover a host ---- */

/* True: enough was seen. */
typedef bool place_fn(void *arg, const struct place *place);

static bool visit(const struct policy *policy, const struct key *key, place_fn *fn, void *arg)
{
    const struct place *place = place_find(policy, key);
    return place && fn(arg, place);
}

/* Longest prefix first: the most particular network is the one to name. */
static bool visit_networks(const struct policy *policy, const struct host *host, struct key *key,
                           place_fn *fn, void *arg)
{
    bool v4 = IN6_IS_ADDR_V4MAPPED(&host->address);
    for (int prefix = 128; prefix >= (v4 ? 96 : 0); prefix--) {
        if (!(policy->prefixes[prefix / 64] >> (prefix % 64) & 1)) {
            continue;
        }
        struct in6_addr network = host->address;
        address_mask(&network, (unsigned)prefix);
        key_of_network(policy, key, (uint8_t)prefix, &network);
        if (visit(policy, key, fn, arg)) {
            return true;
        }
    }
    return false;
}

static bool visit_inner(const struct policy *policy, const struct host *host, struct key *key,
                        place_fn *fn, void *arg)
{
    const char *begin = strchr(host->text, '.');
    for (const char *end; begin && (end = strchr(begin + 1, '.')); begin = end) {
        char name[HOST_MAX + 1]; /* a label has at least the length of its star */
        snprintf(name, sizeof(name), "%.*s.*%s", (int)(begin - host->text), host->text, end);
        key_of_name(policy, key, PATTERN_INNER, name);
        if (visit(policy, key, fn, arg)) {
            return true;
        }
    }
    return false;
}

static bool visit_parents(const struct policy *policy, const struct host *host, struct key *key,
                          place_fn *fn, void *arg)
{
    struct {
        const char *name;
        uint64_t hash;
    } parents[HOST_MAX / 2];
    size_t count = 0;
    const char *end = strchr(host->text, '\0');
    uint64_t hash = policy->seed;
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
            if (visit(policy, key, fn, arg)) {
                return true;
            }
        }
        key_of_hashed(key, PATTERN_MANY, parents[i - 1].name, parents[i - 1].hash);
        if (visit(policy, key, fn, arg)) {
            return true;
        }
    }
    return false;
}

/* From the most to the least particular place. */
static void visit_places(const struct policy *policy, const struct host *host, place_fn *fn,
                         void *arg)
{
    struct key key;
    key_of_name(policy, &key, PATTERN_EXACT, host->text);
    if (visit(policy, &key, fn, arg)) {
        return;
    }
    if (policy->has_inner && !host->is_address && visit_inner(policy, host, &key, fn, arg)) {
        return;
    }
    if (host->is_address ? visit_networks(policy, host, &key, fn, arg)
                         : visit_parents(policy, host, &key, fn, arg)) {
        return;
    }
    key_of_name(policy, &key, PATTERN_ALL, "");
    visit(policy, &key, fn, arg);
}

/* ---- deciding ---- */

struct search {
    const struct policy *policy;
    const struct host *host;
    uint16_t port;
    bool host_service; /* the host is "localhost" */
    uint16_t method;
    const struct path_reading *path;         /* NULL: about a connection */
    const struct node *allow, *deny;         /* that decide */
    const struct node *may_allow, *may_deny; /* that decide about some of the requests */
};

static bool is_excepted(const struct node *node, const struct host *host, uint16_t port)
{
    for (size_t i = 0; i < node->nexcept; i++) {
        if (pattern_matches(&node->except[i], host, port)) {
            return true;
        }
    }
    return false;
}

/* Which allow rule is named, and may lead to more: the person's own for this very place, then his
 * for a network around it, then the most particular one, which is met first. */
static int weight(const struct node *node)
{
    bool narrow = node->kind == PATTERN_EXACT || node->kind == PATTERN_CIDR;
    return node->from_user && narrow ? 1 + (node->kind == PATTERN_EXACT) : 0;
}

static void meet(const struct search *search, const struct node *node, const struct node **allow,
                 const struct node **deny)
{
    if (!ports_have(&node->ports, search->port)) {
        return;
    }
    if (node->public.allow) {
        if (search->host_service && node->kind != PATTERN_EXACT) {
            return; /* a wildcard does not open the services of this machine */
        }
        *allow = *allow && weight(*allow) >= weight(node) ? *allow : node;
    } else if (!*deny && !is_excepted(node, search->host, search->port)) {
        *deny = node;
    }
}

/* The HTTP rules of a place whose paths begin like this. */
static void meet_path(struct search *search, const struct place *place, size_t n)
{
    struct key key;
    key_of_path(search->policy, &key, place, search->path->text, n);
    const struct place *found = place_find(search->policy, &key);
    for (const struct node *node = found ? found->rules : NULL; node; node = node->next) {
        bool covered = path_glob_is_all(node->path) ||
                       (!search->path->unclear &&
                        path_glob_matches(node->path, search->path, !node->public.allow));
        if (covered && (node->methods & search->method)) {
            meet(search, node, &search->allow, &search->deny);
        }
    }
}

static void meet_paths(struct search *search, const struct place *place)
{
    const struct path_reading *path = search->path;
    if (path->unclear) {
        /* It may be any path: what denies some denies this one. */
        for (const struct node *mark = place->marks; mark; mark = mark->next_mark) {
            if (!mark->public.allow && (mark->methods & search->method)) {
                meet(search, mark, &search->allow, &search->deny);
            }
        }
        meet_path(search, place, 0);
        return;
    }
    size_t n = 0;
    for (unsigned depth = 0; search->policy->depths >> depth; depth++) {
        if (search->policy->depths >> depth & 1) {
            meet_path(search, place, n);
        }
        if (n == path->len) {
            break;
        }
        n += 1 + strcspn(path->text + n + 1, "/");
        if (n > PATH_KEY_MAX) {
            break;
        }
    }
}

static bool meet_place(void *arg, const struct place *place)
{
    struct search *search = arg;
    for (const struct node *node = place->rules; node; node = node->next) {
        meet(search, node, &search->allow, &search->deny);
    }
    if (search->path && place->marks) {
        meet_paths(search, place);
    } else {
        for (const struct node *mark = place->marks; mark; mark = mark->next_mark) {
            meet(search, mark, &search->may_allow, &search->may_deny);
        }
    }
    return search->deny != NULL;
}

static void conclude(const struct search *search, struct policy_decision *ret)
{
    const struct node *allow = search->allow ? search->allow : search->may_allow;
    const struct node *deny = search->deny ? search->deny : search->may_deny;
    const struct node *rule = deny && (allow || search->deny) ? deny : allow;
    *ret = (struct policy_decision){
        .allow = search->allow && !deny,
        .needs_request = allow && !search->deny && (deny || !search->allow),
        .rule = rule ? &rule->public : NULL,
        .exact = allow && !search->deny && allow->kind == PATTERN_EXACT,
    };
}

static void decide(const struct policy *policy, const struct policy_request *request,
                   const struct path_reading *path, struct policy_decision *ret)
{
    struct search search = {.policy = policy,
                            .host = request->host,
                            .port = request->port,
                            .host_service = strcmp(request->host->text, "localhost") == 0,
                            .path = path};
    if (path) {
        search.method = rule_method_bit(request->method, request->method_len);
    }
    visit_places(policy, request->host, meet_place, &search);
    conclude(&search, ret);
}

/* A reading is large: this function keeps it out of the way of those who need none. */
static __attribute__((noinline)) void decide_request(const struct policy *policy,
                                                     const struct policy_request *request,
                                                     struct policy_decision *ret)
{
    struct path_reading path;
    path_read(request->path, request->path_len, &path);
    decide(policy, request, &path, ret);
    if (ret->allow && path.has_escaped_slash) {
        path_open_slashes(&path);
        decide(policy, request, &path, ret);
    }
    if (ret->allow && git_service_path(request->path, request->path_len, &path)) {
        struct policy_request service = *request;
        service.method = GIT_SERVICE_METHOD;
        service.method_len = strlen(GIT_SERVICE_METHOD);
        decide(policy, &service, &path, ret);
    }
}

void policy_decide(const struct policy *policy, const struct policy_request *request,
                   struct policy_decision *ret)
{
    if (request->method && policy_has_http_rules(policy)) {
        decide_request(policy, request, ret);
    } else {
        decide(policy, request, NULL, ret);
    }
}

bool policy_needs_request(const struct policy *policy, const struct host *host, uint16_t port)
{
    struct policy_decision decision;
    if (!policy_has_http_rules(policy)) {
        return false;
    }
    policy_decide(policy, &(struct policy_request){.host = host, .port = port}, &decision);
    return decision.needs_request;
}

/* ---- is there any port? ---- */

struct name_search {
    const struct policy *policy;
    const struct host *host;
    struct policy_decision *decision;
    bool found;
};

static bool try_port(struct name_search *search, uint16_t port)
{
    const struct policy_request request = {.host = search->host, .port = port};
    policy_decide(search->policy, &request, search->decision);
    search->found = search->decision->allow || search->decision->needs_request;
    return search->found;
}

/* The lowest port that is allowed is the first of an allow rule or of an exception, or the one
 * behind a deny rule. */
static bool try_ports_of(struct name_search *search, const struct node *node)
{
    if (node->public.allow) {
        return try_port(search, node->ports.first);
    }
    for (size_t i = 0; i < node->nexcept; i++) {
        if (try_port(search, node->except[i].ports.first)) {
            return true;
        }
    }
    return node->ports.last < UINT16_MAX && try_port(search, (uint16_t)(node->ports.last + 1));
}

static bool try_ports(void *arg, const struct place *place)
{
    struct name_search *search = arg;
    for (const struct node *node = place->rules; node && !search->found; node = node->next) {
        try_ports_of(search, node);
    }
    for (const struct node *mark = place->marks; mark && !search->found; mark = mark->next_mark) {
        try_ports_of(search, mark);
    }
    return search->found;
}

/* Is the host denied on every port? */
static bool denied_throughout(const struct policy_decision *any_port)
{
    return any_port->rule && !any_port->rule->allow && !node_of(any_port->rule)->nexcept;
}

bool policy_allows_name(const struct policy *policy, const struct host *host,
                        struct policy_decision *ret)
{
    struct policy_decision any_port, usual, other;
    struct name_search search = {.policy = policy, .host = host, .decision = &any_port};
    /* Port 0 is covered by the rules for every port alone. */
    bool found = try_port(&search, 0);
    *ret = any_port;
    if (found || denied_throughout(&any_port)) {
        return found;
    }
    search.decision = &usual;
    found = try_port(&search, 443);
    *ret = usual;
    if (found) {
        return true;
    }
    search.decision = &other;
    visit_places(policy, host, try_ports, &search);
    if (search.found) {
        *ret = other;
    }
    return search.found;
}

/* ---- addresses ---- */

/* The network rules that name the address itself or a network around it. */
static void search_address(const struct policy *policy, const struct in6_addr *address,
                           uint16_t port, const struct node **ret_allow,
                           const struct node **ret_deny)
{
    struct host host;
    struct search search = {
        .policy = policy, .host = &host, .port = port, .allow = *ret_allow, .deny = *ret_deny};
    host_from_address(address, &host);
    visit_places(policy, &host, meet_place, &search);
    *ret_allow = search.allow;
    *ret_deny = search.deny;
}

/* Same; the address that a transition mechanism hides counts as well. */
static void search_addresses(const struct policy *policy, const struct in6_addr *address,
                             uint16_t port, const struct node **ret_allow,
                             const struct node **ret_deny)
{
    struct in6_addr plain;
    *ret_allow = *ret_deny = NULL;
    search_address(policy, address, port, ret_allow, ret_deny);
    address_unwrap(address, &plain);
    if (!*ret_deny && !IN6_ARE_ADDR_EQUAL(&plain, address)) {
        search_address(policy, &plain, port, ret_allow, ret_deny);
    }
}

bool policy_allows_address(const struct policy *policy, const struct policy_decision *by_name,
                           const struct in6_addr *address, uint16_t port)
{
    const struct node *allow, *deny;
    search_addresses(policy, address, port, &allow, &deny);
    if (!by_name->allow || deny) {
        return false;
    }
    const struct node *name_rule = node_of(by_name->rule);
    int named = allow ? weight(allow) : 0;
    enum address_class class = address_classify(address);
    switch (class) {
    case ADDRESS_PUBLIC:
        return true;
    case ADDRESS_PRIVATE:
        return named || (by_name->exact && name_rule->from_user);
    default:
        break;
    }
    if (class == ADDRESS_LOOPBACK && name_rule->localhost) {
        return true;
    }
    return named && allow->kind == PATTERN_EXACT;
}

bool policy_allows_unresolved(const struct policy_decision *by_name, const struct host *host)
{
    return by_name->allow &&
           (!host_is_private_name(host) || (by_name->exact && node_of(by_name->rule)->from_user));
}

const struct policy_rule *policy_denies_address(const struct policy *policy,
                                                const struct in6_addr *address, uint16_t port)
{
    const struct node *allow, *deny;
    search_addresses(policy, address, port, &allow, &deny);
    return deny ? &deny->public : NULL;
}

bool policy_allows_pinned(const struct policy *policy, const struct policy_decision *by_name,
                          const struct in6_addr *address, uint16_t port)
{
    return by_name->allow && !policy_denies_address(policy, address, port);
}

bool policy_pattern_matches(const char *pattern, const struct host *host, uint16_t port)
{
    struct pattern parsed;
    return pattern_parse(pattern, strnlen(pattern, RULE_LINE_MAX), &parsed, NULL) == 0 &&
           pattern_matches(&parsed, host, port);
}
