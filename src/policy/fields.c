/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/fields.h"

#include <string.h>

#include "base/msg.h"
#include "policy/log.h"

static const char *const text_names[LOG_TEXTS] = {
    [LOG_T] = "t",       [LOG_SANDBOX] = "sandbox", [LOG_DECISION] = "decision",
    [LOG_RULE] = "rule", [LOG_REASON] = "reason",   [LOG_PATH] = "path",
    [LOG_HOST] = "host", [LOG_SERVICE] = "service", [LOG_CREDENTIAL] = "credential",
};
static const char *const number_names[LOG_NUMBERS] = {
    [LOG_PORT] = "port", [LOG_LOST] = "lost", [LOG_REFUSED] = "refused"};

static bool is_name(const struct log_view *name, const char *text)
{
    return strlen(text) == name->len && memcmp(name->data, text, name->len) == 0;
}

static void keep_text(struct log_fields *fields, const struct log_view *name, struct log_view value)
{
    for (size_t i = 0; i < LOG_TEXTS; i++) {
        if (is_name(name, text_names[i])) {
            fields->text[i] = value;
        }
    }
}

static void keep_number(struct log_fields *fields, const struct log_view *name, int64_t value)
{
    for (size_t i = 0; i < LOG_NUMBERS; i++) {
        if (is_name(name, number_names[i])) {
            fields->number[i] = value;
        }
    }
}

/* Each moves *p behind what it reads, or returns false: not the plain form. */
static bool scan_string(const char **p, const char *end, struct log_view *ret)
{
    if (*p == end || **p != '"') {
        return false;
    }
    const char *start = ++*p;
    while (*p < end && **p != '"') {
        if (**p < ' ' || **p > '~' || **p == '\\') {
            return false;
        }
        ++*p;
    }
    *ret = (struct log_view){start, (size_t)(*p - start)};
    return (*p)++ < end;
}

static bool scan_number(const char **p, const char *end, int64_t *ret)
{
    const char *start = *p;
    int64_t value = 0;
    while (*p < end && **p >= '0' && **p <= '9' && *p - start < 18) {
        value = value * 10 + (**p - '0');
        ++*p;
    }
    *ret = value;
    return *p > start && (*start != '0' || *p - start == 1);
}

static bool scan_value(const char **p, const char *end, const struct log_view *name,
                       struct log_fields *fields)
{
    struct log_view text = {0};
    int64_t number = 0;
    if (*p < end && **p == '"') {
        if (!scan_string(p, end, &text)) {
            return false;
        }
    } else if (end - *p >= 4 && memcmp(*p, "null", 4) == 0) {
        *p += 4;
    } else if (!scan_number(p, end, &number)) {
        return false;
    }
    /* Of a name that comes twice the last counts, whatever its kind. */
    keep_text(fields, name, text);
    keep_number(fields, name, number);
    return true;
}

bool log_fields_scan(const char *line, size_t len, struct log_fields *ret)
{
    const char *p = line, *end = line + len;
    *ret = (struct log_fields){0};
    if (len < 2 || *p != '{') {
        return false;
    }
    do {
        struct log_view name;
        p++;
        if (!scan_string(&p, end, &name) || p == end || *p++ != ':' ||
            !scan_value(&p, end, &name, ret)) {
            return false;
        }
    } while (p < end && *p == ',');
    return p + 1 == end && *p == '}';
}

bool log_fields_parse(const char *line, size_t len, struct log_fields *ret)
{
    *ret = (struct log_fields){.json = log_parse(line, len)};
    for (size_t i = 0; ret->json && i < LOG_TEXTS; i++) {
        const json_t *value = json_object_get(ret->json, text_names[i]);
        ret->text[i] = (struct log_view){json_string_value(value), json_string_length(value)};
    }
    for (size_t i = 0; ret->json && i < LOG_NUMBERS; i++) {
        ret->number[i] = sb_json_int(ret->json, number_names[i], 0);
    }
    return ret->json != NULL;
}

bool log_fields_read(const char *line, size_t len, struct log_fields *ret)
{
    return (line && log_fields_scan(line, len, ret)) || log_fields_parse(line, len, ret);
}

void log_fields_done(struct log_fields *fields)
{
    json_decref(fields->json);
    fields->json = NULL;
}

bool log_is_request(const struct log_fields *fields)
{
    return fields->text[LOG_DECISION].data != NULL;
}

bool log_is_allowed(const struct log_fields *fields)
{
    const struct log_view *decision = &fields->text[LOG_DECISION];
    return decision->len == 5 && memcmp(decision->data, "allow", 5) == 0;
}
