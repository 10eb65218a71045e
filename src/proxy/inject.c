/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/inject.h"

#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/err.h"
#include "base/msg.h"
#include "proxy/carrier.h"
#include "proxy/inject_rule.h"
#include "proxy/needle.h"

enum { RULES_MAX = 1024 };

struct inject_set {
    struct inject_rule *rules;
    size_t n;
    struct needles *scrub; /* every secret that is taken out of answers; NULL: none is */
};

enum { SCRUB_MIN = 8 };

static void add_scrubbed(struct inject_set *set, const struct inject_rule *rule)
{
    if (!rule->scrub || rule->secret_len < SCRUB_MIN) {
        return;
    }
    set->scrub = set->scrub ? set->scrub : needles_new();
    needles_add_secret(set->scrub, rule->secret, rule->secret_len);
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
        if (!inject_rule_load(json_array_get(inject_array, i), &set->rules[i])) {
            return NULL;
        }
        add_scrubbed(set, &set->rules[i]);
    }
    return sb_steal(&set);
}

void inject_set_free(struct inject_set *set)
{
    if (!set) {
        return;
    }
    for (size_t i = 0; i < set->n; i++) {
        inject_rule_done(&set->rules[i]);
    }
    needles_unref(set->scrub);
    free(set->rules);
    free(set);
}

bool inject_wants(const struct inject_set *set, const struct host *host, uint16_t port)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if ((rule->secret || rule->capture) && !inject_rule_is_routing(rule) &&
            inject_rule_covers(rule, host, port)) {
            return true;
        }
    }
    return false;
}

bool inject_sees_methods(const struct inject_set *set, const struct host *host, uint16_t port)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if (rule->secret && rule->methods && inject_rule_covers(rule, host, port)) {
            return true;
        }
    }
    return false;
}

bool inject_sets_field(const struct inject_set *set, const struct host *host, uint16_t port,
                       const char *name, size_t n)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if (rule->header[0] && carrier_same_name(name, n, rule->header) &&
            inject_rule_covers(rule, host, port)) {
            return true;
        }
    }
    return false;
}

const char *inject_missing(const struct inject_set *set, const struct host *host, uint16_t port)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if (!rule->secret && !rule->capture && !inject_rule_is_routing(rule) &&
            inject_rule_covers(rule, host, port)) {
            return rule->service;
        }
    }
    return NULL;
}

const struct inject_rule *inject_successor(const struct inject_set *set,
                                           const struct inject_rule *rule)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *other = &set->rules[i];
        if (other->secret && strcmp(other->service, rule->service) == 0 &&
            strcmp(other->kit, rule->kit) == 0) {
            return other;
        }
    }
    return NULL;
}

static void bind_token(struct inject_rule *rule, const json_t *tokens)
{
    const char *name = rule->token == INJECT_ACCESS ? "access" : "refresh";
    const json_t *token = json_object_get(tokens, name);
    if (rule->token != INJECT_NO_TOKEN && json_is_string(token)) {
        inject_rule_bind(rule, json_string_value(token), json_string_length(token));
    }
}

void inject_bind(struct inject_set *set, const json_t *tokens)
{
    const char *service = sb_json_str(tokens, "service"), *kit = sb_json_str(tokens, "kit");
    for (size_t i = 0; service && kit && i < set->n; i++) {
        if (strcmp(set->rules[i].service, service) == 0 && strcmp(set->rules[i].kit, kit) == 0) {
            bind_token(&set->rules[i], tokens);
        }
    }
}

/* Room for what a replacement can make of a head; more than a server would take anyway. */
static void secret_buf_init(struct sb_buf *buf)
{
    sb_buf_init(buf, (size_t)2 * HTTP_HEAD_MAX);
}

/* ---- Placeholders ---- */

static bool holds(const char *text, size_t n, const char *placeholder)
{
    return n && memmem(text, n, placeholder, strlen(placeholder));
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
    return sb_base64_decode(out, text, (size_t)(end - text));
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

/* A body is not there yet: whoever asks for the placeholder to be found in it gets it searched. */
static bool request_holds(const struct http_head *head, const struct inject_rule *rule)
{
    const char *placeholder = rule->placeholder;
    if (!placeholder || !placeholder[0]) {
        return false;
    }
    if ((rule->in_url && holds(head->path, head->path_len, placeholder)) ||
        (rule->in_body && head->body != HTTP_BODY_NONE)) {
        return true;
    }
    for (size_t i = 0; i < head->nfields; i++) {
        if (is_replaceable(&head->fields[i]) && field_holds(&head->fields[i], placeholder)) {
            return true;
        }
    }
    return false;
}

/* Everything but the unreserved characters of RFC 3986 2.3, so that it stays one value. */
static void put_escaped(struct sb_buf *out, const char *text, size_t n)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (size_t i = 0; i < n; i++) {
        if (text[i] && strchr(plain, text[i])) {
            sb_buf_append(out, &text[i], 1);
        } else {
            sb_buf_printf(out, "%%%02X", (unsigned)(unsigned char)text[i]);
        }
    }
}

/* Replaces one rule's placeholder. */
static void put_replaced(struct sb_buf *out, const char *text, size_t n,
                         const struct inject_rule *rule, bool escaped)
{
    size_t size = strlen(rule->placeholder);
    const char *end = text + n;
    for (const char *hit;
         text < end && (hit = memmem(text, (size_t)(end - text), rule->placeholder, size));) {
        sb_buf_append(out, text, (size_t)(hit - text));
        if (escaped) {
            put_escaped(out, rule->secret, rule->secret_len);
        } else {
            sb_buf_append(out, rule->secret, rule->secret_len);
        }
        text = hit + size;
    }
    sb_buf_append(out, text, (size_t)(end - text));
}

/* Replaces the placeholders of every active rule in `text`, whose old bytes are wiped; true when
 * there was one. */
static bool replace_all(const struct inject_result *result, struct sb_buf *text, bool in_url)
{
    bool found = false;
    for (size_t i = 0; i < result->nactive; i++) {
        const struct inject_rule *rule = result->active[i];
        if ((in_url && !rule->in_url) || !holds(text->data, text->len, rule->placeholder)) {
            continue;
        }
        struct sb_buf out;
        secret_buf_init(&out);
        put_replaced(&out, text->data, text->len, rule, in_url);
        out.overflow = out.overflow || text->overflow;
        sb_buf_wipe(text);
        *text = out;
        found = true;
    }
    return found;
}

static enum http_verdict filter_placeholder(const struct inject_result *result,
                                            const struct http_field *field, struct sb_buf *out)
{
    struct sb_buf text;
    secret_buf_init(&text);
    enum http_verdict verdict = HTTP_REWRITE;
    sb_buf_append(&text, field->value, field->value_len);
    if (replace_all(result, &text, false)) {
        sb_buf_append(out, text.data, text.len);
    } else {
        sb_buf_clear(&text);
        if (decode_basic(field, &text) && replace_all(result, &text, false)) {
            sb_buf_puts(out, "Basic ");
            sb_base64_encode(out, text.data, text.len);
        } else {
            verdict = http_is_credential(field->name, field->name_len) ? HTTP_DROP : HTTP_KEEP;
        }
    }
    out->overflow = out->overflow || text.overflow;
    sb_buf_wipe(&text);
    return verdict;
}

/* ---- Fields that we set ---- */

static enum http_verdict filter_carriers(const struct inject_result *result,
                                         const struct http_field *field)
{
    bool drop = http_is_credential(field->name, field->name_len) ||
                (result->applied->strip_cookies &&
                 carrier_same_name(field->name, field->name_len, "cookie"));
    /* What another rule sets at this place carries a credential there. */
    drop = drop || inject_sets_field(result->set, result->request->host, result->request->port,
                                     field->name, field->name_len);
    return drop ? HTTP_DROP : HTTP_KEEP;
}

static void put_formatted(struct sb_buf *out, const struct inject_rule *rule)
{
    if (rule->basic) {
        struct sb_buf plain;
        secret_buf_init(&plain);
        sb_buf_puts(&plain, rule->username);
        sb_buf_puts(&plain, ":");
        sb_buf_append(&plain, rule->secret, rule->secret_len);
        sb_buf_puts(out, "Basic ");
        sb_base64_encode(out, plain.data, plain.len);
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
        if (carrier_same_name(head->fields[i].name, head->fields[i].name_len, name)) {
            return true;
        }
    }
    return false;
}

/* Formats the values of all active rules, then views them: the buffer may move while it grows. */
static void set_fields(struct inject_result *ret)
{
    enum { MAX = HTTP_SET_MAX - 1 }; /* one is for ask_searchable() */
    size_t n = ret->nactive < MAX ? ret->nactive : MAX, ends[MAX];
    for (size_t i = 0; i < n; i++) {
        put_formatted(&ret->value, ret->active[i]);
        ends[i] = ret->value.len;
    }
    for (size_t i = 0; i < n && !ret->value.overflow; i++) {
        size_t start = i ? ends[i - 1] : 0;
        const char *name = inject_rule_header(ret->active[i]);
        ret->fields[i] = (struct http_field){.name = name,
                                             .name_len = strlen(name),
                                             .value = ret->value.data + start,
                                             .value_len = ends[i] - start};
    }
    ret->edits.nset = n;
}

/* The target without other credentials, with what stands for placeholders in it. */
static void set_target(struct inject_result *ret)
{
    const struct http_head *head = ret->request->head;
    const char *kept = ret->applied->in_url ? ret->applied->placeholder : NULL;
    bool changed = carrier_strip_query(head->path, head->path_len, kept, &ret->target);
    if (ret->applied->mode == INJECT_PLACEHOLDER) {
        if (!changed) {
            sb_buf_clear(&ret->target);
            sb_buf_append(&ret->target, head->path, head->path_len);
        }
        changed |= replace_all(ret, &ret->target, true);
    }
    if (changed) {
        ret->edits.target = ret->target.data;
        ret->edits.target_len = ret->target.len;
    }
}

/* ---- Bodies ---- */

/* The secret as this type of content writes it. */
static void put_for_content(struct sb_buf *out, const struct http_head *head,
                            const struct inject_rule *rule)
{
    const struct http_field *type = http_find(head, "content-type");
    const char *end = type ? memchr(type->value, ';', type->value_len) : NULL;
    size_t n = end ? (size_t)(end - type->value) : type ? type->value_len : 0;
    if (n && http_text_is(type->value, n, "application/x-www-form-urlencoded")) {
        put_escaped(out, rule->secret, rule->secret_len);
        return;
    }
    bool json = n >= 4 && http_text_is(type->value + n - 4, 4, "json");
    for (size_t i = 0; i < rule->secret_len; i++) {
        if (json && (rule->secret[i] == '"' || rule->secret[i] == '\\')) {
            sb_buf_puts(out, "\\");
        }
        sb_buf_append(out, &rule->secret[i], 1);
    }
}

static void set_body(struct inject_result *ret)
{
    const struct http_head *head = ret->request->head;
    if (head->body == HTTP_BODY_NONE) {
        return;
    }
    for (size_t i = 0; i < ret->nactive; i++) {
        const struct inject_rule *rule = ret->active[i];
        if (!rule->in_body) {
            continue;
        }
        struct sb_buf text;
        secret_buf_init(&text);
        put_for_content(&text, head, rule);
        ret->swap = ret->swap ? ret->swap : needles_new();
        needles_add(ret->swap, NEEDLE_EXACT, rule->placeholder, strlen(rule->placeholder),
                    text.data, text.len);
        ret->edits.reframed |= text.len != strlen(rule->placeholder);
        sb_buf_wipe(&text);
    }
}

/* The answer will be searched: it must not come in pieces that the sandbox chose, nor compressed in
 * a way that we cannot undo. */
static void ask_searchable(struct inject_result *ret)
{
    ret->fields[ret->edits.nset++] = (struct http_field){
        .name = "Accept-Encoding", .name_len = 15, .value = "gzip, br", .value_len = 8};
}

/* The second is Range for Apache, too. */
static bool asks_for_pieces(const struct http_field *field)
{
    static const char *const names[] = {"range", "request-range", "if-range", "a-im"};
    for (size_t i = 0; i < SB_ARRAY_LEN(names); i++) {
        if (carrier_same_name(field->name, field->name_len, names[i])) {
            return true;
        }
    }
    return false;
}

static enum http_verdict filter_request(void *arg, const struct http_field *field,
                                        struct sb_buf *out)
{
    const struct inject_result *result = arg;
    bool whole = result->scrub || result->capture;
    if (whole && asks_for_pieces(field)) {
        return HTTP_DROP;
    }
    if (result->decodes && http_field_is(field, "content-encoding")) {
        return HTTP_DROP;
    }
    return !result->applied                              ? HTTP_KEEP
           : result->applied->mode == INJECT_PLACEHOLDER ? filter_placeholder(result, field, out)
                                                         : filter_carriers(result, field);
}

/* ---- The decision ---- */

/* The first rule that matches; a placeholder rule also needs its placeholder in the request, so
 * that several of them can share a place. */
static const struct inject_rule *find_rule(const struct inject_set *set,
                                           const struct inject_request *request, size_t from,
                                           struct inject_reading *reading)
{
    for (size_t i = from; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if (rule->mode != INJECT_CAPTURE && !inject_rule_is_routing(rule) &&
            inject_rule_matches(rule, request, reading) &&
            (rule->mode != INJECT_PLACEHOLDER || request_holds(request->head, rule))) {
            return rule;
        }
    }
    return NULL;
}

/* What goes with the first rule: the other placeholders of the request, or the rules that join. */
static void activate(struct inject_result *ret, struct inject_reading *reading)
{
    const struct inject_set *set = ret->set;
    const struct inject_rule *first = ret->applied, *rule = first, *end = set->rules + set->n;
    ret->active[ret->nactive++] = first;
    while (ret->nactive < INJECT_ACTIVE_MAX) {
        if (first->mode == INJECT_PLACEHOLDER) {
            rule = find_rule(set, ret->request, (size_t)(rule - set->rules) + 1, reading);
        } else {
            rule = rule + 1 < end && rule[1].joins ? rule + 1 : NULL;
        }
        if (!rule) {
            return;
        }
        if (rule->secret && rule->mode == first->mode) {
            ret->active[ret->nactive++] = rule;
        }
    }
}

/* Nobody on the way may read a credential: TLS, or no way at all. */
static bool is_safe_way(const struct inject_request *request)
{
    const struct host *host = request->host;
    return request->secure || strcmp(host->text, "localhost") == 0 ||
           (host->is_address &&
            (IN6_IS_ADDR_LOOPBACK(&host->address) ||
             (IN6_IS_ADDR_V4MAPPED(&host->address) && host->address.s6_addr[12] == 127)));
}

static bool is_scrubbed(const struct inject_set *set, const struct host *host, uint16_t port)
{
    for (size_t i = 0; set->scrub && i < set->n; i++) {
        if (set->rules[i].scrub && inject_rule_covers(&set->rules[i], host, port)) {
            return true;
        }
    }
    return false;
}

static struct capture *find_capture(const struct inject_set *set,
                                    const struct inject_request *request,
                                    struct inject_reading *reading)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct inject_rule *rule = &set->rules[i];
        if (rule->capture && inject_rule_matches(rule, request, reading)) {
            return rule->capture;
        }
    }
    return NULL;
}

/* What the rule makes of the request; nothing when it gives no secret. */
static void apply_rule(struct inject_result *ret, const struct inject_rule *rule,
                       struct inject_reading *reading)
{
    const struct inject_request *request = ret->request;
    ret->service = rule->service;
    if (!rule->secret || !is_safe_way(request)) {
        ret->unbound = true;
        return;
    }
    if (rule->mode == INJECT_IF_ABSENT && has_field(request->head, inject_rule_header(rule))) {
        return;
    }
    ret->applied = rule;
    activate(ret, reading);
    if (rule->mode != INJECT_PLACEHOLDER) {
        set_fields(ret);
    } else {
        set_body(ret);
    }
    set_target(ret);
}

int inject_apply(const struct inject_set *set, const struct inject_request *request,
                 struct inject_result *ret)
{
    static struct inject_reading reading; /* large, and used for one call only */
    *ret = (struct inject_result){.set = set, .request = request};
    secret_buf_init(&ret->value);
    secret_buf_init(&ret->target);
    reading.done = false;
    const struct inject_rule *rule = find_rule(set, request, 0, &reading);
    if (rule) {
        apply_rule(ret, rule, &reading);
    }
    ret->scrub = is_scrubbed(set, request->host, request->port) ? set->scrub : NULL;
    ret->capture = find_capture(set, request, &reading);
    if (ret->scrub || ret->capture) {
        ask_searchable(ret);
    }
    if (ret->applied || ret->scrub || ret->capture) {
        ret->edits.set = ret->fields;
        ret->edits.filter = filter_request;
        ret->edits.filter_arg = ret;
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
    needles_unref(result->swap);
    *result = (struct inject_result){0};
}
