/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/rule.h"

#include <string.h>

#include "base/buf.h"

/* More than any line can become: its words are half as many as its bytes. */
enum { TEXT_MAX = RULE_LINE_MAX / 2 * PATTERN_TEXT_MAX };

/* In the order of canonical texts.  The bit behind the last one is every other method. */
static const char *const method_names[] = {"GET",    "HEAD",    "POST",    "PUT",  "PATCH",
                                           "DELETE", "OPTIONS", "CONNECT", "TRACE"};

void rule_done(struct rule *rule)
{
    free(rule->path);
    free(rule->except);
    free(rule->text);
    *rule = (struct rule){0};
}

uint16_t rule_method_bit(const char *method, size_t n)
{
    size_t i = 0;
    while (i < SB_ARRAY_LEN(method_names) &&
           !(strlen(method_names[i]) == n && memcmp(method_names[i], method, n) == 0)) {
        i++;
    }
    return (uint16_t)(1U << i);
}

/* ---- rule to text ---- */

void rule_format_methods(uint16_t methods, char ret[RULE_METHODS_TEXT_MAX])
{
    char *out = ret;
    for (size_t i = 0; methods != RULE_METHODS_ANY && i < SB_ARRAY_LEN(method_names); i++) {
        if (methods & 1U << i) {
            out = stpcpy(stpcpy(out, out > ret ? "," : ""), method_names[i]);
        }
    }
    if (methods == RULE_METHODS_ANY) {
        stpcpy(ret, "ANY");
    }
}

static char *format_rule(const struct rule *rule)
{
    char pattern[PATTERN_TEXT_MAX], names[RULE_METHODS_TEXT_MAX];
    struct sb_buf out;
    sb_buf_init(&out, TEXT_MAX);
    pattern_format(&rule->pattern, pattern);
    sb_buf_printf(&out, "%s %s", rule->allow ? "allow" : "deny", pattern);
    if (rule->methods) {
        rule_format_methods(rule->methods, names);
        sb_buf_printf(&out, " method %s", names);
    }
    if (rule->path && !path_glob_is_all(rule->path)) {
        sb_buf_printf(&out, " path %s", rule->path);
    }
    for (size_t i = 0; i < rule->nexcept; i++) {
        pattern_format(&rule->except[i], pattern);
        sb_buf_printf(&out, "%s %s", i ? "" : " except", pattern);
    }
    return sb_buf_steal(&out);
}

/* ---- text to rule ---- */

/* The words of a line that are still to be read. */
struct words {
    const char *line;
    size_t at, end; /* `at` stands at a word or at `end` */
};

struct word {
    size_t at, len; /* len 0: the line has ended */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void words_begin(struct words *words, const char *line)
{
    *words = (struct words){.line = line, .end = strlen(line)};
    while (words->end && is_blank(line[words->end - 1])) {
        words->end--;
    }
    while (words->at < words->end && is_blank(line[words->at])) {
        words->at++;
    }
}

static struct word words_next(struct words *words)
{
    struct word word = {.at = words->at};
    while (words->at < words->end && !is_blank(words->line[words->at])) {
        words->at++;
    }
    word.len = words->at - word.at;
    while (words->at < words->end && is_blank(words->line[words->at])) {
        words->at++;
    }
    return word;
}

static bool word_is(const struct words *words, struct word word, const char *text)
{
    return word.len == strlen(text) && memcmp(words->line + word.at, text, word.len) == 0;
}

static int fail_at(struct sb_err **err, struct word word, const char *message)
{
    int r = sb_fail(err, SB_EUSAGE, "%s", message);
    sb_err_set_place(err, NULL, 1, word.at + 1, word.len ? word.len : 1, NULL);
    return r;
}

/* The result of a parser that saw the line from the word on. */
static int shifted(struct sb_err **err, struct word word, int code)
{
    if (code < 0 && err && *err) {
        (*err)->place.column += word.at;
    }
    return code;
}

/* One name of a list of methods, or "ANY". */
static int parse_method(const struct words *words, struct word name, uint16_t *ret,
                        struct sb_err **err)
{
    const char *text = words->line + name.at;
    if (name.len == 3 && strncasecmp(text, "ANY", 3) == 0) {
        *ret |= RULE_METHODS_ANY;
        return 0;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(method_names); i++) {
        if (strlen(method_names[i]) == name.len &&
            strncasecmp(text, method_names[i], name.len) == 0) {
            *ret |= (uint16_t)(1U << i);
            return 0;
        }
    }
    int r = fail_at(err, name, "not a method that a rule can name");
    sb_hint(err, "methods are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT, TRACE, and "
                 "ANY for all");
    return r;
}

static int parse_methods(const struct words *words, struct word list, struct rule *rule,
                         struct sb_err **err)
{
    size_t end = list.at + list.len;
    for (struct word name = {.at = list.at}; name.at <= end; name.at += name.len + 1) {
        const char *comma = memchr(words->line + name.at, ',', end - name.at);
        name.len = (comma ? (size_t)(comma - words->line) : end) - name.at;
        int r = parse_method(words, name, &rule->methods, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool names_address(const struct pattern *pattern)
{
    return pattern->kind == PATTERN_CIDR ||
           (pattern->kind == PATTERN_EXACT && pattern->host.is_address);
}

static int parse_method_clause(struct words *words, struct word clause, struct rule *rule,
                               struct sb_err **err)
{
    if (rule->methods) {
        return fail_at(err, clause, "'method' stands here for the second time");
    }
    if (names_address(&rule->pattern)) {
        int r = fail_at(err, clause, "only rules for host names can look at methods");
        sb_hint(err, "a rule for an address or a network decides about whole connections");
        return r;
    }
    return parse_methods(words, words_next(words), rule, err);
}

static int parse_path_clause(struct words *words, struct word clause, struct rule *rule,
                             struct sb_err **err)
{
    if (rule->path) {
        return fail_at(err, clause, "a rule has one path");
    }
    if (!rule->methods) {
        int r = fail_at(err, clause, "a path without a method");
        sb_hint(err, "say for which: method GET,HEAD, or method ANY");
        return r;
    }
    struct word glob = words_next(words);
    int r = path_glob_check(words->line + glob.at, glob.len, err);
    if (r < 0) {
        return shifted(err, glob, r);
    }
    rule->path = sb_xstrndup(words->line + glob.at, glob.len);
    return 0;
}

static int check_exception(const struct rule *rule, const struct pattern *except, struct word word,
                           struct sb_err **err)
{
    if (!pattern_covers(&rule->pattern, except)) {
        return fail_at(err, word, "the rule does not deny this, so it cannot except it");
    }
    if (pattern_covers(except, &rule->pattern) &&
        except->ports.first <= rule->pattern.ports.first &&
        except->ports.last >= rule->pattern.ports.last) {
        return fail_at(err, word, "this excepts all that the rule denies");
    }
    return 0;
}

static int parse_except_clause(struct words *words, struct word clause, struct rule *rule,
                               struct sb_err **err)
{
    if (rule->allow) {
        int r = fail_at(err, clause, "only a deny rule has exceptions");
        sb_hint(err, "write a deny rule for what shall not be allowed: a deny wins");
        return r;
    }
    do {
        struct word word = words_next(words);
        struct pattern except;
        int r = shifted(err, word, pattern_parse(words->line + word.at, word.len, &except, err));
        r = r < 0 ? r : check_exception(rule, &except, word, err);
        if (r < 0) {
            return r;
        }
        rule->except = sb_xrealloc(rule->except, rule->nexcept + 1, sizeof(except));
        rule->except[rule->nexcept++] = except;
    } while (words->at < words->end);
    return 0;
}

static int parse_clause(struct words *words, struct rule *rule, struct sb_err **err)
{
    struct word clause = words_next(words);
    if (word_is(words, clause, "method")) {
        return parse_method_clause(words, clause, rule, err);
    }
    if (word_is(words, clause, "path")) {
        return parse_path_clause(words, clause, rule, err);
    }
    if (word_is(words, clause, "except")) {
        return parse_except_clause(words, clause, rule, err);
    }
    int r = fail_at(err, clause, "expected 'method', 'path', 'except' or the end of the rule");
    sb_hint(err, "a rule names one host; a comment has a line of its own");
    return r;
}

static int parse_words(struct words *words, struct rule *rule, struct sb_err **err)
{
    struct word verb = words_next(words);
    rule->allow = word_is(words, verb, "allow");
    if (!rule->allow && !word_is(words, verb, "deny")) {
        return fail_at(err, verb, "a rule begins with 'allow' or 'deny'");
    }
    struct word word = words_next(words);
    int r = shifted(err, word, pattern_parse(words->line + word.at, word.len, &rule->pattern, err));
    while (r == 0 && words->at < words->end) {
        r = parse_clause(words, rule, err);
    }
    if (r == 0 && rule->methods && !rule->path) {
        rule->path = sb_xstrdup("/**");
    }
    return r;
}

/* Adds the line to the place of an error; control bytes must not reach a terminal. */
static void set_excerpt(struct sb_err **err, const char *line)
{
    if (!err || !*err) {
        return;
    }
    SB_CLEANUP(free) char *excerpt = sb_xstrndup(line, RULE_LINE_MAX);
    for (char *p = excerpt; *p; p++) {
        if ((*p < ' ' && *p != '\t' && *p > 0) || *p == 0x7f) {
            *p = '?';
        }
    }
    struct sb_place *place = &(*err)->place;
    sb_err_set_place(err, NULL, 1, place->column, place->length, excerpt);
}

static int refuse_length(struct sb_err **err)
{
    return sb_fail(err, SB_ELIMIT, "a rule is longer than %d bytes", RULE_LINE_MAX);
}

int rule_parse(const char *line, struct rule *ret, struct sb_err **err)
{
    if (strlen(line) > RULE_LINE_MAX) {
        return refuse_length(err);
    }
    SB_CLEANUP(rule) struct rule rule = {0};
    struct words words;
    words_begin(&words, line);
    int r = parse_words(&words, &rule, err);
    if (r < 0) {
        set_excerpt(err, line);
        return r;
    }
    /* A-labels are longer than the letters that they stand for. */
    rule.text = format_rule(&rule);
    if (strlen(rule.text) > RULE_LINE_MAX) {
        return refuse_length(err);
    }
    *ret = rule;
    rule = (struct rule){0};
    return 0;
}
