/* SPDX-License-Identifier: Apache-2.0
 * One rule, parsed: the grammar of policy.h as text on one side and as a struct on the other. */
#pragma once

#include "policy/path.h"
#include "policy/pattern.h"

enum {
    RULE_LINE_MAX = 2048,      /* bytes of a line, also of a canonical one */
    RULE_METHOD_OTHER = 0x200, /* every method that rules have no name for */
    RULE_METHODS_ANY = 0x3ff,
};

struct rule {
    bool allow;
    struct pattern pattern;
    /* 0: a network rule, for connections whatever they carry.  Otherwise a bit for each method; the
     * rule decides about requests. */
    uint16_t methods;
    char *path; /* owned glob; NULL in a network rule */
    struct pattern *except;
    size_t nexcept;
    char *text; /* owned: the canonical line, at most RULE_LINE_MAX bytes */
};

void rule_done(struct rule *rule);
static inline void sb_cleanup_rule(struct rule *rule)
{
    rule_done(rule);
}
/* Errors carry a place in `line` and an excerpt; `ret` is to be released after a success only. */
int rule_parse(const char *line, struct rule *ret, struct sb_err **err);
/* "GET,HEAD" or "ANY"; `ret` holds RULE_METHODS_TEXT_MAX bytes. */
enum { RULE_METHODS_TEXT_MAX = 64 };
void rule_format_methods(uint16_t methods, char ret[RULE_METHODS_TEXT_MAX]);
/* The bit of a request's method (exact case, as methods are in HTTP). */
uint16_t rule_method_bit(const char *method, size_t n);
