/* SPDX-License-Identifier: Apache-2.0
 * The set of rules: each line once for each origin. */
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "policy/policy_internal.h"
#include "policy/rule.h"

struct policy *policy_new(void)
{
    struct policy *policy = sb_xcalloc(1, sizeof(*policy));
    /* A kit must not be able to choose names that collide.  Without randomness only that is lost.
     */
    if (getrandom(&policy->index.seed, sizeof(policy->index.seed), GRND_NONBLOCK) < 0) {
        policy->index.seed = (uint64_t)(uintptr_t)policy;
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
    for (size_t i = 0; i < policy->norigins; i++) {
        free(policy->origins[i]);
    }
    index_done(&policy->index);
    table_done(&policy->known);
    free(policy->origins);
    free(policy->rules);
    free(policy);
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

static void keep(struct policy *policy, struct node *node)
{
    if (policy->count == policy->cap) {
        policy->cap = policy->cap ? policy->cap * 2 : 64;
        policy->rules = sb_xrealloc(policy->rules, policy->cap, sizeof(struct node *));
    }
    policy->rules[policy->count++] = node;
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
    uint64_t hash =
        table_hash(policy->index.seed, &node->public.origin, sizeof(node->public.origin));
    hash = table_hash(hash, node->text, strlen(node->text));
    if (table_find(&policy->known, hash, known_equal, node)) {
        node_free(node);
        return 0;
    }
    table_add(&policy->known, hash, node);
    index_add(&policy->index, node, &rule.pattern);
    keep(policy, node);
    return 0;
}

size_t policy_count(const struct policy *policy)
{
    return policy->count;
}

bool policy_has_http_rules(const struct policy *policy)
{
    return policy->index.depths != 0;
}
