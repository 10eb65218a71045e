/* SPDX-License-Identifier: Apache-2.0
 * Finding the rules that could be about a host, without looking at the others.  Internal to
 * policy/.
 *
 * Rules that name the same host pattern, whatever their ports, share a place.  Places lie in a hash
 * table whose key is all that a pattern compares: kind, prefix, and name or network.  A search asks
 * for each key that could cover the host: the name itself, each parent as "*." and "**.", itself
 * with '*' for a label (when any rule has that), each prefix length in use, everything.  So its
 * cost depends on the number of labels, never on the number of rules.
 *
 * HTTP rules of a place are found the same way by their path: the key is the place and the segments
 * before the first '*', so a request asks for each beginning of its path.  A place also has marks:
 * a few of its HTTP rules that stand for all of them when the request is not known.
 *
 * The index owns its places; the rules belong to the policy. */
#pragma once

#include "policy/pattern.h"
#include "policy/policy.h"
#include "policy/table.h"

enum {
    /* Segments and bytes of a path that the index looks at. */
    INDEX_DEPTH_MAX = 8,
    INDEX_PATH_MAX = 200,
};

/* A rule, and its place in the lists of the index. */
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

/* The rules that say the same host, or the same host and beginning of a path. */
struct place {
    struct node *rules; /* the network rules of a pattern, or the HTTP rules of a path */
    struct node *marks; /* of a pattern */
    size_t key_len;
    unsigned char key[];
};

struct index {
    struct table places;
    uint64_t seed;
    uint64_t prefixes[3]; /* bit set of the CIDR prefix lengths in use */
    bool has_inner;       /* a pattern has its star between names */
    unsigned depths;      /* bit set of the path lengths that HTTP rules are found by */
};

void index_done(struct index *index);
void index_add(struct index *index, struct node *node, const struct pattern *pattern);

/* True: enough was seen. */
typedef bool index_visit_fn(void *arg, const struct place *place);
/* The places that cover the host, from the most to the least particular one. */
void index_visit(const struct index *index, const struct host *host, index_visit_fn *fn, void *arg);
/* The HTTP rules of a place whose paths begin, before any '*', with just these bytes (at most
 * INDEX_PATH_MAX); or NULL. */
const struct place *index_path(const struct index *index, const struct place *place,
                               const char *path, size_t n);
