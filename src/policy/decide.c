/* SPDX-License-Identifier: Apache-2.0
 * The decision over a set of rules: about a connection, a request, a name, an address. */
#include <string.h>

#include "policy/git_service.h"
#include "policy/path.h"
#include "policy/policy_internal.h"
#include "policy/rule.h"

/* The node whose public part this is. */
static const struct node *node_of(const struct policy_rule *rule)
{
    return (const struct node *)(const void *)((const char *)rule - offsetof(struct node, public));
}

/* ---- a connection or a request ---- */

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
    const struct place *found = index_path(&search->policy->index, place, search->path->text, n);
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
    for (unsigned depth = 0; search->policy->index.depths >> depth; depth++) {
        if (search->policy->index.depths >> depth & 1) {
            meet_path(search, place, n);
        }
        if (n == path->len) {
            break;
        }
        n += 1 + strcspn(path->text + n + 1, "/");
        if (n > INDEX_PATH_MAX) {
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
        .varies = search->may_allow || search->may_deny,
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
    index_visit(&policy->index, request->host, meet_place, &search);
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
    index_visit(&policy->index, host, try_ports, &search);
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
    index_visit(&policy->index, &host, meet_place, &search);
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
