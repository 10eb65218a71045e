/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/inject.h"

#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/msg.h"
#include "policy/policy.h"

enum { RULES_MAX = 1024 };

struct inject_set {
    struct inject_rule *rules;
    size_t n;
};

/* ---- Loading ---- */

/* A string that may be missing or null; false when it is something else. */
static bool load_text(const json_t *object, const char *key, char **ret)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) {
        return true;
    }
    if (!json_is_string(value)) {
        return false;
    }
    *ret = sb_xstrdup(json_string_value(value));
    return true;
}

static bool load_mode(const json_t *object, enum inject_mode *ret)
{
    static const char *const names[] = {
        [INJECT_OVERWRITE] = "overwrite",
        [INJECT_IF_ABSENT] = "if-absent",
        [INJECT_PLACEHOLDER] = "placeholder",
    };
    const json_t *value = json_object_get(object, "mode");
    if (!value || json_is_null(value)) {
        *ret = INJECT_OVERWRITE;
        return true;
    }
    for (size_t i = 0; json_is_string(value) && i < SB_ARRAY_LEN(names); i++) {
        if (strcmp(json_string_value(value), names[i]) == 0) {
            *ret = (enum inject_mode)i;
            return true;
        }
    }
    return false;
}

/* May these bytes stand in a field value?  A line break would start a field of the secret's
 * choosing. */
static bool is_printable(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool is_header_name(const char *s)
{
    return !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")];
}

/* Fields whose loss or change would make it another request. */
static bool is_reserved_header(const char *s)
{
    static const char *const names[] = {"host",       "content-length", "transfer-encoding",
                                        "connection", "upgrade",        "te"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        if (strcasecmp(s, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Why a rule that has a secret cannot be used, or NULL. */
static const char *rule_problem(const struct inject_rule *rule, const char *secret, size_t n)
{
    const char *slot = strstr(rule->format, "%s");
    if (!n) {
        return "the secret is empty";
    }
    if (!is_printable(secret, n)) {
        return "the secret holds a line break or another control character";
    }
    if (rule->mode == INJECT_PLACEHOLDER && (!rule->placeholder || !rule->placeholder[0])) {
        return "the rule has no placeholder";
    }
    if (!is_header_name(rule->header) || is_reserved_header(rule->header)) {
        return "the header of the rule is not one that can carry a credential";
    }
    if (!slot || strstr(slot + 2, "%s") || !is_printable(rule->format, strlen(rule->format))) {
        return "the format of the rule does not hold \"%s\" exactly once";
    }
    if (rule->username &&
        (strchr(rule->username, ':') || !is_printable(rule->username, strlen(rule->username)))) {
        return "the user name of the rule holds ':' or a control character";
    }
    return NULL;
}

static void default_text(char **slot, const char *text)
{
    if (!*slot) {
        *slot = sb_xstrdup(text);
    }
}

static bool load_rule(const json_t *object, struct inject_rule *rule)
{
    if (!json_is_object(object) || !load_text(object, "id", &rule->id) ||
        !load_text(object, "service", &rule->service) || !load_text(object, "kit", &rule->kit) ||
        !load_text(object, "domain", &rule->domain) ||
        !load_text(object, "header", &rule->header) ||
        !load_text(object, "format", &rule->format) ||
        !load_text(object, "username", &rule->username) ||
        !load_text(object, "placeholder", &rule->placeholder) || !load_mode(object, &rule->mode) ||
        !rule->domain || !rule->service) {
        return false;
    }
    default_text(&rule->id, "");
    default_text(&rule->kit, "");
    default_text(&rule->header, "");
    if (!rule->format || !rule->format[0]) {
        free(rule->format);
        rule->format = sb_xstrdup("%s");
    }
    if (rule->username && !rule->username[0]) {
        free(sb_steal(&rule->username));
    }
    const json_t *secret = json_object_get(object, "secret");
    if (!secret || json_is_null(secret)) {
        return true;
    }
    if (!json_is_string(secret)) {
        return false;
    }
    size_t n = json_string_length(secret);
    rule->reason = rule_problem(rule, json_string_value(secret), n);
    if (!rule->reason) {
        rule->secret = sb_xstrndup(json_string_value(secret), n);
        rule->secret_len = n;
    }
    return true;
}

struct inject_set *inject_set_from_json(const json_t *inject_array)
{
    if (!json_is_array(inject_array) || json_array_size(inject_array) > RULES_MAX) {
        return NULL;
    }
    SB_CLEANUP(inject_set) struct inject_set *set = sb_xcalloc(1, sizeof(*set));
    set->rules = sb_xcalloc(json_array_size(inject_array) + 1, sizeof(*set->rules));
    for (size_t i = 0; i < json_array_size(inject_array); i++) {
        set->n = i + 1; /* a rule that fails half-way is released, too */
        if (!load_rule(json_array_get(inject_array, i), &set->rules[i])) {
            return NULL;
        }
    }
    return sb_steal(&set);
}

void inject_set_free(struct inject_set *set)
{
    if (!set) {
        return;
    }
    for (size_t i = 0; i < set->n; i++) {
        struct inject_rule *rule = &set->rules[i];
        if (rule->secret) {
            explicit_bzero(rule->secret, rule->secret_len);
        }
        free(rule->secret);
        free(rule->id);
        free(rule->service);
        free(rule->kit);
        free(rule->domain);
        free(rule->header);
        free(rule->format);
        free(rule->username);
        free(rule->placeholder);
    }
    free(set->rules);
    free(set);
}

/* A rule that only says which service a host belongs to. */
static bool is_routing_only(const struct inject_rule *rule)
{
    return rule->mode != INJECT_PLACEHOLDER && !rule->header[0] && !rule->username;
}

bool inject_wants(const struct inject_set *set, const struct host *host, uint16_t port)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if (rule->secret && !is_routing_only(rule) &&
            policy_pattern_matches(rule->domain, host, port)) {
            return true;
        }
    }
    return false;
}

/* ---- Base64 (RFC 4648) ---- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_encode(struct sb_buf *out, const char *data, size_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        unsigned v = (unsigned)p[i] << 16 | (have > 1 ? (unsigned)p[i + 1] << 8 : 0) |
                     (have > 2 ? p[i + 2] : 0);
        char quad[4] = {base64_digits[v >> 18], base64_digits[v >> 12 & 63],
                        have > 1 ? base64_digits[v >> 6 & 63] : '=',
                        have > 2 ? base64_digits[v & 63] : '='};
        sb_buf_append(out, quad, sizeof(quad));
    }
}

/* Decodes with or without padding; false for anything else. */
static bool base64_decode(struct sb_buf *out, const char *text, size_t n)
{
    while (n && text[n - 1] == '=') {
        n--;
    }
    unsigned bits = 0, v = 0;
    for (size_t i = 0; i < n; i++) {
        const char *digit = text[i] ? strchr(base64_digits, text[i]) : NULL;
        if (!digit) {
            return false;
        }
        v = (v << 6 | (unsigned)(digit - base64_digits)) & 0xffffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            char c = (char)(v >> bits & 0xff);
            sb_buf_append(out, &c, 1);
        }
    }
    return true;
}

/* The decoded "user:password" of a Basic Authorization field. */
static bool decode_basic(const struct http_field *field, struct sb_buf *out)
{
    if (!http_field_is(field, "authorization") || field->value_len < 6 ||
        strncasecmp(field->value, "basic ", 6) != 0) {
        return false;
    }
    const char *text = field->value + 6, *end = field->value + field->value_len;
    while (text < end && *text == ' ') {
        text++;
    }
    return base64_decode(out, text, (size_t)(end - text));
}

/* ---- Placeholders ---- */

static bool holds(const char *text, size_t n, const char *placeholder)
{
    return n && memmem(text, n, placeholder, strlen(placeholder));
}

static void put_replaced(struct sb_buf *out, const char *text, size_t n,
                         const struct inject_rule *rule)
{
    size_t size = strlen(rule->placeholder);
    const char *end = text + n;
    for (const char *hit; (hit = memmem(text, (size_t)(end - text), rule->placeholder, size));) {
        sb_buf_append(out, text, (size_t)(hit - text));
        sb_buf_append(out, rule->secret, rule->secret_len);
        text = hit + size;
    }
    sb_buf_append(out, text, (size_t)(end - text));
}

/* Room for what a replacement can make of a head; more than a server would take anyway. */
static void secret_buf_init(struct sb_buf *buf)
{
    sb_buf_init(buf, (size_t)2 * HTTP_HEAD_MAX);
}

/* Does the field hold the placeholder, as text or in Basic? */
static bool field_holds(const struct http_field *field, const char *placeholder)
{
    if (holds(field->value, field->value_len, placeholder)) {
        return true;
    }
    struct sb_buf plain;
    secret_buf_init(&plain);
    bool found = decode_basic(field, &plain) && holds(plain.data, plain.len, placeholder);
    sb_buf_wipe(&plain);
    return found;
}

/* Fields that http_message_set() hands to the filter; Host and framing are not for secrets. */
static bool is_replaceable(const struct http_field *field)
{
    static const char *const names[] = {"host",       "content-length",      "transfer-encoding",
                                        "connection", "proxy-authorization", "upgrade",
                                        "te"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        if (http_field_is(field, names[i])) {
            return false;
        }
    }
    return true;
}

static bool head_holds(const struct http_head *head, const char *placeholder)
{
    for (size_t i = 0; i < head->nfields; i++) {
        if (is_replaceable(&head->fields[i]) && field_holds(&head->fields[i], placeholder)) {
            return true;
        }
    }
    return false;
}

static enum http_verdict filter_placeholder(void *arg, const struct http_field *field,
                                            struct sb_buf *out)
{
    const struct inject_rule *rule = ((const struct inject_result *)arg)->applied;
    if (holds(field->value, field->value_len, rule->placeholder)) {
        put_replaced(out, field->value, field->value_len, rule);
        return HTTP_REWRITE;
    }
    if (!field_holds(field, rule->placeholder)) {
        return http_is_credential(field->name, field->name_len) ? HTTP_DROP : HTTP_KEEP;
    }
    struct sb_buf plain, real;
    secret_buf_init(&plain);
    secret_buf_init(&real);
    decode_basic(field, &plain);
    put_replaced(&real, plain.data, plain.len, rule);
    sb_buf_puts(out, "Basic ");
    base64_encode(out, real.data, real.len);
    out->overflow = out->overflow || real.overflow;
    sb_buf_wipe(&plain);
    sb_buf_wipe(&real);
    return HTTP_REWRITE;
}

/* ---- Other carriers of credentials ---- */

/* Same name, when '_' counts as '-' and case does not count. */
static bool same_name(const char *name, size_t n, const char *want)
{
    if (n != strlen(want)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char a = name[i] == '_' ? '-' : name[i], b = want[i] == '_' ? '-' : want[i];
        if (strncasecmp(&a, &b, 1) != 0) {
            return false;
        }
    }
    return true;
}

static enum http_verdict filter_carriers(void *arg, const struct http_field *field,
                                         struct sb_buf *out)
{
    (void)out;
    const struct inject_result *result = arg;
    bool drop = http_is_credential(field->name, field->name_len) ||
                same_name(field->name, field->name_len, result->edits.set_name);
    return drop ? HTTP_DROP : HTTP_KEEP;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)((at - digits) % 16) : -1;
}

/* Is this "name=value" piece of a query one that carries a credential?  The name is compared
 * decoded. */
static bool is_credential_parameter(const char *piece, size_t n)
{
    static const char *const names[] = {"key", "api-key", "access-token", "private-token"};
    char name[16];
    size_t len = 0;
    for (size_t i = 0; i < n && piece[i] != '='; i++) {
        char c = piece[i];
        if (c == '%' && n - i > 2 && hex_digit(piece[i + 1]) >= 0 && hex_digit(piece[i + 2]) >= 0) {
            c = (char)(hex_digit(piece[i + 1]) << 4 | hex_digit(piece[i + 2]));
            i += 2;
        }
        if (len == sizeof(name)) {
            return false;
        }
        name[len++] = c;
    }
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        if (same_name(name, len, names[i])) {
            return true;
        }
    }
    return false;
}

/* Writes the path and query without credential parameters; false when there were none. */
static bool strip_target(const struct http_head *head, struct sb_buf *out)
{
    const char *end = head->path + head->path_len;
    const char *mark = head->path_len ? memchr(head->path, '?', head->path_len) : NULL;
    if (!mark) {
        return false;
    }
    bool stripped = false;
    char separator = '?';
    sb_buf_append(out, head->path, (size_t)(mark - head->path));
    for (const char *p = mark; p < end;) {
        const char *piece = p + 1, *stop = piece;
        while (stop < end && *stop != '&' && *stop != ';') {
            stop++;
        }
        if (is_credential_parameter(piece, (size_t)(stop - piece))) {
            stripped = true;
        } else {
            sb_buf_append(out, separator == '?' ? "?" : p, 1);
            sb_buf_append(out, piece, (size_t)(stop - piece));
            separator = '&';
        }
        p = stop;
    }
    if (!out->len) {
        sb_buf_puts(out, "/");
    }
    return stripped;
}

/* ---- The decision ---- */

static const char *header_of(const struct inject_rule *rule)
{
    return rule->header[0] ? rule->header : "Authorization";
}

static void put_formatted(struct sb_buf *out, const struct inject_rule *rule)
{
    if (rule->username) {
        struct sb_buf plain;
        secret_buf_init(&plain);
        sb_buf_puts(&plain, rule->username);
        sb_buf_puts(&plain, ":");
        sb_buf_append(&plain, rule->secret, rule->secret_len);
        sb_buf_puts(out, "Basic ");
        base64_encode(out, plain.data, plain.len);
        out->overflow = out->overflow || plain.overflow;
        sb_buf_wipe(&plain);
        return;
    }
    const char *slot = strstr(rule->format, "%s");
    sb_buf_append(out, rule->format, (size_t)(slot - rule->format));
    sb_buf_append(out, rule->secret, rule->secret_len);
    sb_buf_puts(out, slot + 2);
}

static bool has_field(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->nfields; i++) {
        if (same_name(head->fields[i].name, head->fields[i].name_len, name)) {
            return true;
        }
    }
    return false;
}

/* The first rule that covers the place; a placeholder rule also needs its placeholder in the
 * request, so that several of them can share a host. */
static const struct inject_rule *find_rule(const struct inject_set *set, const struct host *host,
                                           uint16_t port, const struct http_head *head)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if (!policy_pattern_matches(rule->domain, host, port)) {
            continue;
        }
        if (rule->mode != INJECT_PLACEHOLDER ||
            (rule->placeholder && rule->placeholder[0] && head_holds(head, rule->placeholder))) {
            return rule;
        }
    }
    return NULL;
}

int inject_apply(const struct inject_set *set, const struct host *host, uint16_t port,
                 const struct http_head *head, struct inject_result *ret)
{
    *ret = (struct inject_result){0};
    secret_buf_init(&ret->value);
    sb_buf_init(&ret->target, HTTP_HEAD_MAX);
    const struct inject_rule *rule = find_rule(set, host, port, head);
    if (!rule || is_routing_only(rule)) {
        return 0;
    }
    ret->service = rule->service;
    if (!rule->secret) {
        ret->unbound = true;
        return 0;
    }
    if (rule->mode == INJECT_IF_ABSENT && has_field(head, header_of(rule))) {
        return 0;
    }
    ret->applied = rule;
    ret->edits.filter_arg = ret;
    ret->edits.filter = filter_placeholder;
    if (rule->mode != INJECT_PLACEHOLDER) {
        put_formatted(&ret->value, rule);
        ret->edits.filter = filter_carriers;
        ret->edits.set_name = header_of(rule);
        ret->edits.set_value = ret->value.data;
        ret->edits.set_value_len = ret->value.len;
    }
    if (strip_target(head, &ret->target)) {
        ret->edits.target = ret->target.data;
        ret->edits.target_len = ret->target.len;
    }
    if (ret->value.overflow || ret->target.overflow) {
        inject_result_done(ret);
        return -1;
    }
    return 0;
}

void inject_result_done(struct inject_result *result)
{
    sb_buf_wipe(&result->value);
    sb_buf_wipe(&result->target);
    *result = (struct inject_result){0};
}
