/* SPDX-License-Identifier: Apache-2.0
 * YAML text -> a tree of nodes that know their place.
 *
 * Input is hostile: text, depth, nodes and alias expansion are bounded (YTREE_*).  An aliased node
 * is shared, not copied, but every alias is charged with the size of what it stands for, so walking
 * the tree as if it had been expanded is bounded as well.  Scalars keep their source text: nothing
 * is typed here.  A tree owns its nodes and its text; nodes are borrowed.  Pure: no I/O. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    YTREE_MAX_BYTES = 1024 * 1024,
    YTREE_MAX_DEPTH = 64,
    YTREE_MAX_NODES = 50000,
};

enum ynode_kind { YNODE_NULL, YNODE_SCALAR, YNODE_LIST, YNODE_MAP };

struct ynode {
    enum ynode_kind kind;
    bool plain;                  /* a scalar without quotes */
    size_t line, column, length; /* from 1; `length` of the part on `line`, 0 if unknown */
    char *text;                  /* scalar text; "" for null, NULL for list and map */
    size_t count;                /* items of a list, pairs of a map */
    struct ynode **items;        /* list: items; map: values */
    struct ynode **keys;         /* map only: scalars, unique */
    size_t weight, height;       /* nodes and levels below and including, aliases expanded */
    struct ynode *next;          /* the tree's chain of all nodes */
};

struct ytree;

int ytree_parse(const char *file, const char *text, size_t len, struct ytree **ret,
                struct sb_err **err);
void ytree_free(struct ytree *tree);
SB_DEFINE_CLEANUP(ytree, struct ytree *, ytree_free)
const struct ynode *ytree_root(const struct ytree *tree);
/* The text of a line, shortened when it is very long; the caller frees. */
char *ytree_excerpt(const struct ytree *tree, size_t line);

/* The line of a second YAML document, of which nothing is read; 0 when there is none. */
size_t ytree_second_document(const struct ytree *tree);
/* The first scalar with this text on `line` or behind it, or NULL. */
const struct ynode *ytree_find(const struct ytree *tree, size_t line, const char *text);

/* The text of a message about a spec: one line of UTF-8, whatever it quotes.  The caller frees. */
char *ytree_message(const char *format, va_list args) __attribute__((format(printf, 1, 0)));
/* Fails at the place of `node`. */
int ytree_fail(const struct ytree *tree, const struct ynode *node, struct sb_err **err,
               const char *format, ...) __attribute__((format(printf, 4, 5)));
int ytree_fail_empty(const struct ytree *tree, const struct ynode *node, struct sb_err **err);

/* The value of `key` in a map; NULL when `map` is NULL, no map, or holds nothing (or null) there.
 */
const struct ynode *ynode_get(const struct ynode *map, const char *key);
/* Same, NULL also when it is empty text, an empty list or an empty map: these mean "absent". */
const struct ynode *ynode_filled(const struct ynode *map, const char *key);
/* The node of the key itself, for its place; NULL when ynode_filled() has nothing. */
const struct ynode *ynode_key(const struct ynode *map, const char *key);
/* The text of a scalar below `key`; "" when absent. */
const char *ynode_str(const struct ynode *map, const char *key);
/* YAML 1.1 words for booleans; false when `node` is not one of them. */
bool ynode_to_bool(const struct ynode *node, bool *ret_value);
