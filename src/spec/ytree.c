/* SPDX-License-Identifier: Apache-2.0
 * Builds the node tree from libyaml's events.  See ytree.h for the bounds that it must keep. */
#include "spec/ytree.h"

#include <jansson.h>
#include <stdarg.h>
#include <strings.h>
#include <yaml.h>

#include "base/msg.h"
#include "base/text.h"

struct anchor {
    char *name;
    struct ynode *node;
};

struct ytree {
    char *file, *text;
    size_t len;
    struct ynode *root, *all;
    size_t budget; /* nodes that may still be made, aliases expanded */
    struct anchor *anchors;
    size_t nanchors;
    size_t second_line; /* of a second document, which is not read; 0: there is none */
};

struct composer {
    struct ytree *tree;
    yaml_parser_t parser;
    struct sb_err **err;
};

static int compose_node(struct composer *c, yaml_event_t *event, size_t depth, struct ynode **ret);

static void ynode_free(struct ynode *node)
{
    free(node->text);
    free(node->items);
    free(node->keys);
    free(node);
}

static void drop_anchors(struct ytree *tree)
{
    for (size_t i = 0; i < tree->nanchors; i++) {
        free(tree->anchors[i].name);
    }
    free(sb_steal(&tree->anchors));
    tree->nanchors = 0;
}

void ytree_free(struct ytree *tree)
{
    if (!tree) {
        return;
    }
    for (struct ynode *node = tree->all, *next; node; node = next) {
        next = node->next;
        ynode_free(node);
    }
    drop_anchors(tree);
    free(tree->file);
    free(tree->text);
    free(tree);
}

const struct ynode *ytree_root(const struct ytree *tree)
{
    return tree->root;
}

size_t ytree_second_document(const struct ytree *tree)
{
    return tree->second_line;
}

/* Where a line begins, or NULL. */
static const char *find_line(const struct ytree *tree, size_t line)
{
    const char *at = tree->text, *end = tree->text + tree->len;
    while (line > 1 && at) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at ? at + 1 : NULL;
        line--;
    }
    return at;
}

char *ytree_excerpt(const struct ytree *tree, size_t line)
{
    enum { EXCERPT_MAX = 200 };
    const char *at = find_line(tree, line), *end = tree->text + tree->len;
    if (!at) {
        return sb_xstrdup("");
    }
    size_t n = 0;
    while (at + n < end && n < EXCERPT_MAX && at[n] != '\n' && at[n] != '\r') {
        n++;
    }
    while (at + n < end && n > 0 && ((unsigned char)at[n] & 0xc0) == 0x80) {
        n--; /* do not cut a character in two */
    }
    char *out = sb_xstrndup(at, n);
    for (char *p = out; *p; p++) {
        /* The text may be a stranger's: control bytes must not reach a terminal. */
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
    return out;
}

static int fail_at(const struct ytree *tree, size_t line, size_t column, size_t length,
                   struct sb_err **err, const char *message)
{
    SB_CLEANUP(free) char *excerpt = ytree_excerpt(tree, line);
    int r = sb_fail(err, SB_ESPEC, "%s", message);
    sb_err_set_place(err, tree->file, line, column, length, excerpt);
    return r;
}

char *ytree_message(const char *format, va_list args)
{
    SB_CLEANUP(free) char *message = NULL;
    if (vasprintf(&message, format, args) < 0) {
        return sb_xstrdup("the spec is wrong");
    }
    return sb_printable(message, "");
}

int ytree_fail(const struct ytree *tree, const struct ynode *node, struct sb_err **err,
               const char *format, ...)
{
    va_list args;
    va_start(args, format);
    SB_CLEANUP(free) char *message = ytree_message(format, args);
    va_end(args);
    return fail_at(tree, node ? node->line : 1, node ? node->column : 1, node ? node->length : 0,
                   err, message);
}

int ytree_fail_empty(const struct ytree *tree, const struct ynode *node, struct sb_err **err)
{
    ytree_fail(tree, node, err, "the spec is empty");
    sb_hint(err, "begin with: schemaVersion: \"1\"");
    return SB_ESPEC;
}

const struct ynode *ytree_find(const struct ytree *tree, size_t line, const char *text)
{
    const struct ynode *found = NULL;
    for (const struct ynode *node = tree->all; node; node = node->next) {
        if (node->text && node->line >= line && strcmp(node->text, text) == 0 &&
            (!found || node->line < found->line ||
             (node->line == found->line && node->column < found->column))) {
            found = node;
        }
    }
    return found;
}

static int fail_mark(struct composer *c, const yaml_mark_t *mark, const char *message)
{
    return fail_at(c->tree, mark->line + 1, mark->column + 1, 1, c->err, message);
}

/* What libyaml's words leave open: what to write instead, or where to look. */
static void hint_yaml(struct composer *c, const yaml_mark_t *mark)
{
    const yaml_parser_t *parser = &c->parser;
    const yaml_mark_t *context = &parser->context_mark;
    const char *line = find_line(c->tree, mark->line + 1);
    bool elsewhere = parser->context && context->line != mark->line;
    if (parser->error == YAML_READER_ERROR) {
        sb_hint(c->err, "save the file as UTF-8 text without control characters");
    } else if (line && memchr(line, '\t', strspn(line, " \t"))) {
        sb_hint(c->err, "indent with spaces: YAML takes no tabs there");
    } else if (elsewhere) {
        sb_hint(c->err, "look at what begins at line %zu, column %zu", context->line + 1,
                context->column + 1);
    } else if (!line || line == c->tree->text + c->tree->len) {
        sb_hint(c->err, "a bracket or a quotation mark before is not closed");
    } else {
        sb_hint(c->err, "put text with special characters into quotes");
    }
}

static int next_event(struct composer *c, yaml_event_t *ret_event)
{
    if (yaml_parser_parse(&c->parser, ret_event)) {
        return 0;
    }
    const char *problem = c->parser.problem ? c->parser.problem : "unreadable text";
    SB_CLEANUP(free)
    char *message = c->parser.context
                        ? sb_xasprintf("not valid YAML: %s, %s", c->parser.context, problem)
                        : sb_xasprintf("not valid YAML: %s", problem);
    yaml_mark_t mark = c->parser.problem_mark;
    if (c->parser.error == YAML_READER_ERROR) {
        /* The reader knows only a byte offset, not a mark. */
        mark = (yaml_mark_t){0};
        for (size_t i = 0; i < c->parser.problem_offset && i < c->tree->len; i++) {
            bool within = ((unsigned char)c->tree->text[i] & 0xc0) == 0x80; /* a character */
            mark.column = c->tree->text[i] == '\n' ? 0 : mark.column + !within;
            mark.line += c->tree->text[i] == '\n';
        }
    }
    fail_mark(c, &mark, message);
    hint_yaml(c, &mark);
    return SB_ESPEC;
}

static int charge(struct composer *c, const yaml_mark_t *mark, size_t weight)
{
    if (weight > c->tree->budget) {
        fail_mark(c, mark, "the spec has too many YAML nodes (limit 50000, aliases expanded)");
        sb_hint(c->err, "remove the nested aliases, or make the kit smaller");
        return SB_ESPEC;
    }
    c->tree->budget -= weight;
    return 0;
}

static struct ynode *new_node(struct composer *c, const yaml_event_t *event, enum ynode_kind kind)
{
    struct ynode *node = sb_xcalloc(1, sizeof(*node));
    node->kind = kind;
    node->line = event->start_mark.line + 1;
    node->column = event->start_mark.column + 1;
    if (kind == YNODE_SCALAR && event->end_mark.line == event->start_mark.line) {
        node->length = event->end_mark.column - event->start_mark.column;
    }
    node->weight = node->height = 1;
    node->next = c->tree->all;
    c->tree->all = node;
    return node;
}

/* Grows in powers of two: capacity is implied by the count. */
static void push(struct ynode ***array, size_t count, struct ynode *node)
{
    if ((count & (count - 1)) == 0) {
        *array = sb_xrealloc(*array, count ? count * 2 : 1, sizeof(struct ynode *));
    }
    (*array)[count] = node;
}

static void adopt(struct ynode *parent, const struct ynode *child)
{
    parent->weight += child->weight;
    if (child->height + 1 > parent->height) {
        parent->height = child->height + 1;
    }
}

static int check_tag(struct composer *c, const yaml_event_t *event, const yaml_char_t *raw)
{
    static const char *const known[] = {"str", "int", "float", "bool", "null", "seq", "map"};
    static const char core[] = "tag:yaml.org,2002:";
    const char *tag = (const char *)raw;
    if (!tag || strcmp(tag, "!") == 0) {
        return 0;
    }
    if (strncmp(tag, core, sizeof(core) - 1) == 0) {
        for (size_t i = 0; i < SB_ARRAY_LEN(known); i++) {
            if (strcmp(tag + sizeof(core) - 1, known[i]) == 0) {
                return 0;
            }
        }
    }
    SB_CLEANUP(free) char *message = sb_xasprintf("YAML tag \"%.80s\" is not supported", tag);
    return fail_mark(c, &event->start_mark, message);
}

static int remember_anchor(struct composer *c, const char *name, struct ynode *node)
{
    enum { ANCHORS_MAX = 1000 }; /* the list is searched from its start for every alias */
    struct ytree *tree = c->tree;
    for (size_t i = 0; i < tree->nanchors; i++) {
        if (strcmp(tree->anchors[i].name, name) == 0) {
            tree->anchors[i].node = node; /* a later anchor of the same name wins, as YAML says */
            return 0;
        }
    }
    if (tree->nanchors == ANCHORS_MAX) {
        return ytree_fail(tree, node, c->err, "the spec has too many anchors (limit 1000)");
    }
    tree->anchors = sb_xrealloc(tree->anchors, tree->nanchors + 1, sizeof(*tree->anchors));
    tree->anchors[tree->nanchors++] = (struct anchor){sb_xstrdup(name), node};
    return 0;
}

static int compose_alias(struct composer *c, const yaml_event_t *event, size_t depth,
                         struct ynode **ret)
{
    const char *name = (const char *)event->data.alias.anchor;
    for (size_t i = 0; i < c->tree->nanchors; i++) {
        struct ynode *node = c->tree->anchors[i].node;
        if (strcmp(c->tree->anchors[i].name, name) != 0) {
            continue;
        }
        if (depth + node->height > YTREE_MAX_DEPTH) {
            return fail_mark(c, &event->start_mark, "the spec is nested too deeply (limit 64)");
        }
        int r = charge(c, &event->start_mark, node->weight);
        if (r < 0) {
            return r;
        }
        *ret = node;
        return 0;
    }
    SB_CLEANUP(free) char *message = sb_xasprintf("unknown alias \"*%.80s\"", name);
    return fail_mark(c, &event->start_mark, message);
}

static int compose_scalar(struct composer *c, const yaml_event_t *event, struct ynode **ret)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    const char *value = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    if (memchr(value, 0, len)) {
        return fail_mark(c, &event->start_mark, "a text may not hold a NUL character");
    }
    struct ynode *node = new_node(c, event, YNODE_SCALAR);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = sb_xstrndup(value, len);
    for (size_t i = 0; node->plain && !event->data.scalar.tag && i < SB_ARRAY_LEN(nulls); i++) {
        if (strcmp(value, nulls[i]) == 0) {
            node->kind = YNODE_NULL;
            node->text[0] = '\0';
            break;
        }
    }
    *ret = node;
    return 0;
}

static int compose_list(struct composer *c, const yaml_event_t *start, size_t depth,
                        struct ynode **ret)
{
    struct ynode *node = new_node(c, start, YNODE_LIST);
    for (;;) {
        yaml_event_t event;
        struct ynode *item = NULL;
        int r = next_event(c, &event);
        if (r < 0) {
            return r;
        }
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        r = end ? 0 : compose_node(c, &event, depth + 1, &item);
        yaml_event_delete(&event);
        if (r < 0) {
            return r;
        }
        if (end) {
            *ret = node;
            return 0;
        }
        push(&node->items, node->count++, item);
        adopt(node, item);
    }
}

static void map_push(struct ynode *map, struct ynode *key, struct ynode *value)
{
    push(&map->keys, map->count, key);
    push(&map->items, map->count, value);
    map->count++;
    map->weight++;
    adopt(map, value);
}

/* `<<`: pairs of another map whose keys are not there yet.  Their weight was charged by the alias.
 */
static int merge_from(struct composer *c, struct ynode *map, const struct ynode *from, json_t *seen)
{
    if (from->kind == YNODE_LIST) {
        for (size_t i = 0; i < from->count; i++) {
            if (from->items[i]->kind != YNODE_MAP) {
                return ytree_fail(c->tree, from->items[i], c->err, "'<<' can only merge mappings");
            }
            int r = merge_from(c, map, from->items[i], seen);
            if (r < 0) {
                return r;
            }
        }
        return 0;
    }
    if (from->kind != YNODE_MAP) {
        return ytree_fail(c->tree, from, c->err, "'<<' can only merge mappings");
    }
    for (size_t i = 0; i < from->count; i++) {
        if (!json_object_get(seen, from->keys[i]->text)) {
            json_object_set_new(seen, from->keys[i]->text, json_true());
            map_push(map, from->keys[i], from->items[i]);
        }
    }
    return 0;
}

static int compose_pair(struct composer *c, yaml_event_t *key_event, size_t depth,
                        struct ynode **ret_key, struct ynode **ret_value)
{
    int r = compose_node(c, key_event, depth + 1, ret_key);
    if (r < 0) {
        return r;
    }
    if ((*ret_key)->kind > YNODE_SCALAR) {
        return ytree_fail(c->tree, *ret_key, c->err, "a mapping key must be plain text");
    }
    yaml_event_t event;
    r = next_event(c, &event);
    if (r < 0) {
        return r;
    }
    r = compose_node(c, &event, depth + 1, ret_value);
    yaml_event_delete(&event);
    return r;
}

static int add_pair(struct composer *c, struct ynode *map, struct ynode *key, struct ynode *value,
                    json_t *seen)
{
    if (json_object_get(seen, key->text)) {
        return ytree_fail(c->tree, key, c->err, "key \"%.80s\" is given twice in one mapping",
                          key->text);
    }
    json_object_set_new(seen, key->text, json_true());
    map_push(map, key, value);
    return 0;
}

static int compose_map(struct composer *c, const yaml_event_t *start, size_t depth,
                       struct ynode **ret)
{
    struct ynode *map = new_node(c, start, YNODE_MAP), *merge = NULL;
    SB_CLEANUP(json) json_t *seen = json_object();
    for (;;) {
        yaml_event_t event;
        struct ynode *key = NULL, *value = NULL;
        int r = next_event(c, &event);
        if (r < 0) {
            return r;
        }
        bool end = event.type == YAML_MAPPING_END_EVENT;
        r = end ? 0 : compose_pair(c, &event, depth, &key, &value);
        yaml_event_delete(&event);
        if (r < 0) {
            return r;
        }
        if (end) {
            break;
        }
        if (key->plain && strcmp(key->text, "<<") == 0) {
            if (merge) {
                ytree_fail(c->tree, key, c->err, "'<<' is given twice in one mapping");
                sb_hint(c->err, "merge a list: <<: [*first, *second]");
                return SB_ESPEC;
            }
            merge = value;
        } else if ((r = add_pair(c, map, key, value, seen)) < 0) {
            return r;
        }
    }
    *ret = map;
    return merge ? merge_from(c, map, merge, seen) : 0;
}

static int compose_node(struct composer *c, yaml_event_t *event, size_t depth, struct ynode **ret)
{
    if (depth > YTREE_MAX_DEPTH) {
        return fail_mark(c, &event->start_mark, "the spec is nested too deeply (limit 64)");
    }
    if (event->type == YAML_ALIAS_EVENT) {
        return compose_alias(c, event, depth, ret);
    }
    const yaml_char_t *tag, *anchor;
    int (*compose)(struct composer *, const yaml_event_t *, size_t, struct ynode **) = NULL;
    if (event->type == YAML_SEQUENCE_START_EVENT) {
        tag = event->data.sequence_start.tag;
        anchor = event->data.sequence_start.anchor;
        compose = compose_list;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        tag = event->data.mapping_start.tag;
        anchor = event->data.mapping_start.anchor;
        compose = compose_map;
    } else {
        tag = event->data.scalar.tag;
        anchor = event->data.scalar.anchor;
    }
    int r = charge(c, &event->start_mark, 1);
    r = r < 0 ? r : check_tag(c, event, tag);
    if (r < 0) {
        return r;
    }
    r = compose ? compose(c, event, depth, ret) : compose_scalar(c, event, ret);
    if (r == 0 && anchor) {
        /* Only now: an alias to a node that is still open would be a cycle. */
        r = remember_anchor(c, (const char *)anchor, *ret);
    }
    return r;
}

/* Is there a second document?  It is not read, so what may be wrong with it does not count. */
static void look_for_second(struct composer *c)
{
    yaml_event_t event;
    for (int i = 0; i < 2 && yaml_parser_parse(&c->parser, &event); i++) {
        if (event.type == YAML_DOCUMENT_START_EVENT) {
            c->tree->second_line = event.start_mark.line + 1;
        }
        yaml_event_delete(&event);
    }
}

/* The first document. */
static int compose_document(struct composer *c)
{
    for (;;) {
        yaml_event_t event;
        int r = next_event(c, &event);
        if (r < 0) {
            return r;
        }
        bool skip =
            event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_START_EVENT;
        if (event.type == YAML_STREAM_END_EVENT) {
            r = ytree_fail_empty(c->tree, NULL, c->err);
        } else if (!skip) {
            r = compose_node(c, &event, 1, &c->tree->root);
        }
        yaml_event_delete(&event);
        if (!skip || r < 0) {
            return r;
        }
    }
}

int ytree_parse(const char *file, const char *text, size_t len, struct ytree **ret,
                struct sb_err **err)
{
    if (len > YTREE_MAX_BYTES) {
        sb_fail(err, SB_ESPEC, "%s is larger than 1 MiB", file);
        sb_hint(err, "put what is large into files below files/");
        return SB_ESPEC;
    }
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
        text += 3; /* a byte order mark */
        len -= 3;
    }
    SB_CLEANUP(ytree) struct ytree *tree = sb_xcalloc(1, sizeof(*tree));
    tree->file = sb_xstrdup(file);
    tree->text = sb_xcalloc(len + 1, 1);
    memcpy(tree->text, text, len);
    tree->len = len;
    tree->budget = YTREE_MAX_NODES;
    struct composer c = {.tree = tree, .err = err};
    if (!yaml_parser_initialize(&c.parser)) {
        return sb_fail(err, SB_EFAIL, "no memory for the YAML parser");
    }
    yaml_parser_set_input_string(&c.parser, (const unsigned char *)tree->text, len);
    yaml_parser_set_encoding(&c.parser, YAML_UTF8_ENCODING);
    int r = compose_document(&c);
    if (r == 0) {
        look_for_second(&c);
    }
    yaml_parser_delete(&c.parser);
    drop_anchors(tree);
    if (r == 0) {
        *ret = sb_steal(&tree);
    }
    return r;
}

const struct ynode *ynode_get(const struct ynode *map, const char *key)
{
    for (size_t i = 0; map && map->kind == YNODE_MAP && i < map->count; i++) {
        if (strcmp(map->keys[i]->text, key) == 0) {
            return map->items[i]->kind == YNODE_NULL ? NULL : map->items[i];
        }
    }
    return NULL;
}

const struct ynode *ynode_filled(const struct ynode *map, const char *key)
{
    const struct ynode *node = ynode_get(map, key);
    bool empty = node && (node->text ? !node->text[0] : node->count == 0);
    return empty ? NULL : node;
}

const struct ynode *ynode_key(const struct ynode *map, const char *key)
{
    for (size_t i = 0; ynode_filled(map, key) && i < map->count; i++) {
        if (strcmp(map->keys[i]->text, key) == 0) {
            return map->keys[i];
        }
    }
    return NULL;
}

const char *ynode_str(const struct ynode *map, const char *key)
{
    const struct ynode *node = ynode_get(map, key);
    return node && node->text ? node->text : "";
}

bool ynode_to_bool(const struct ynode *node, bool *ret_value)
{
    static const char *const words[] = {"false", "no", "off", "n", "true", "yes", "on", "y"};
    for (size_t i = 0; node->kind == YNODE_SCALAR && node->plain && i < SB_ARRAY_LEN(words); i++) {
        if (strcasecmp(node->text, words[i]) == 0) {
            *ret_value = i >= SB_ARRAY_LEN(words) / 2;
            return true;
        }
    }
    return false;
}
