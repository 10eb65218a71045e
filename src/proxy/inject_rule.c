/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/inject_rule.h"

#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/msg.h"
#include "base/wipe.h"
#include "proxy/capture.h"

enum { LIST_MAX = 64 };

/* ---- Loading ---- */

/* A string that may be missing or null; false when it is something else. */
static bool load_text(const json_t *object, const char *key, const char *fallback, char **ret)
{
    const json_t *value = json_object_get(object, key);
    if (value && !json_is_null(value) && !json_is_string(value)) {
        return false;
    }
    const char *text = json_is_string(value) ? json_string_value(value) : fallback;
    *ret = text ? sb_xstrdup(text) : NULL;
    return true;
}

static bool load_flag(const json_t *object, const char *key, bool *ret)
{
    const json_t *value = json_object_get(object, key);
    *ret = json_is_true(value);
    return !value || json_is_boolean(value);
}

/* An array of strings; missing or empty: NULL. */
static bool load_list(const json_t *object, const char *key, char ***ret)
{
    const json_t *list = json_object_get(object, key);
    size_t n = json_array_size(list), i;
    const json_t *item;
    if (n == 0) {
        return !list || json_is_array(list) || json_is_null(list);
    }
    if (n > LIST_MAX) {
        return false;
    }
    *ret = sb_xcalloc(n + 1, sizeof(**ret));
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item)) {
            return false;
        }
        (*ret)[i] = sb_xstrdup(json_string_value(item));
    }
    return true;
}

static void list_free(char **list)
{
    for (char **item = list; item && *item; item++) {
        free(*item);
    }
    free(list);
}

static bool load_mode(const json_t *object, enum inject_mode *ret)
{
    static const char *const names[] = {
        [INJECT_OVERWRITE] = "overwrite",
        [INJECT_IF_ABSENT] = "if-absent",
        [INJECT_PLACEHOLDER] = "placeholder",
        [INJECT_CAPTURE] = "capture",
    };
    const json_t *value = json_object_get(object, "mode");
    *ret = INJECT_OVERWRITE;
    for (size_t i = 0; json_is_string(value) && i < SB_ARRAY_LEN(names); i++) {
        if (strcmp(json_string_value(value), names[i]) == 0) {
            *ret = (enum inject_mode)i;
            return true;
        }
    }
    return !value || json_is_null(value);
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

/* Can the rule be used with this secret?  What it lacks was reported when it was written; here it
 * is as good as unbound. */
static bool is_usable(const struct inject_rule *rule, const char *secret, size_t n)
{
    const char *slot = strstr(rule->format, "%s");
    return n > 0 && rule->has_place && is_printable(secret, n) &&
           (rule->mode != INJECT_PLACEHOLDER || (rule->placeholder && rule->placeholder[0])) &&
           is_header_name(rule->header) && !is_reserved_header(rule->header) && slot &&
           !strstr(slot + 2, "%s") && is_printable(rule->format, strlen(rule->format)) &&
           !strchr(rule->username, ':') && is_printable(rule->username, strlen(rule->username));
}

bool inject_rule_bind(struct inject_rule *rule, const char *secret, size_t n)
{
    if (!is_usable(rule, secret, n)) {
        return false;
    }
    sb_free_wiped(rule->secret);
    rule->secret = sb_xstrndup(secret, n);
    rule->secret_len = n;
    return true;
}

static bool load_secret(const json_t *object, struct inject_rule *rule)
{
    const json_t *secret = json_object_get(object, "secret");
    if (!secret || json_is_null(secret)) {
        return true;
    }
    if (!json_is_string(secret)) {
        return false;
    }
    inject_rule_bind(rule, json_string_value(secret), json_string_length(secret));
    return true;
}

/* The parts of a sign-in. */
static bool load_sign_in(const json_t *object, struct inject_rule *rule)
{
    SB_CLEANUP(free) char *token = NULL;
    if (!load_text(object, "token", "", &token)) {
        return false;
    }
    rule->token = strcmp(token, "access") == 0    ? INJECT_ACCESS
                  : strcmp(token, "refresh") == 0 ? INJECT_REFRESH
                                                  : INJECT_NO_TOKEN;
    if (rule->mode == INJECT_CAPTURE) {
        rule->capture = capture_new(json_object_get(object, "capture"), rule->service, rule->kit);
        return rule->capture != NULL;
    }
    return true;
}

bool inject_rule_load(const json_t *object, struct inject_rule *rule)
{
    SB_CLEANUP(free) char *domain = NULL;
    SB_CLEANUP(free) char *scheme = NULL;
    bool read =
        json_is_object(object) && load_text(object, "id", "", &rule->id) &&
        load_text(object, "service", NULL, &rule->service) &&
        load_text(object, "kit", "", &rule->kit) && load_text(object, "domain", NULL, &domain) &&
        load_list(object, "paths", &rule->paths) && load_list(object, "methods", &rule->methods) &&
        load_flag(object, "git", &rule->git) && load_flag(object, "joins", &rule->joins) &&
        load_mode(object, &rule->mode) && load_text(object, "header", "", &rule->header) &&
        load_text(object, "format", "", &rule->format) &&
        load_text(object, "scheme", "", &scheme) &&
        load_text(object, "username", "", &rule->username) &&
        load_text(object, "placeholder", NULL, &rule->placeholder) &&
        load_flag(object, "in_url", &rule->in_url) &&
        load_flag(object, "in_body", &rule->in_body) &&
        load_flag(object, "strip_cookies", &rule->strip_cookies) &&
        load_flag(object, "scrub", &rule->scrub);
    if (!read || !domain || !rule->service) {
        return false;
    }
    if (!rule->format[0]) {
        free(rule->format);
        rule->format = sb_xstrdup("%s");
    }
    rule->basic = rule->username[0] || strcmp(scheme, "basic") == 0;
    rule->has_place = pattern_parse(domain, strlen(domain), &rule->place, NULL) == 0;
    return load_sign_in(object, rule) && load_secret(object, rule);
}

void inject_rule_done(struct inject_rule *rule)
{
    sb_free_wiped(rule->secret);
    capture_unref(rule->capture);
    free(rule->id);
    free(rule->service);
    free(rule->kit);
    free(rule->header);
    free(rule->format);
    free(rule->username);
    free(rule->placeholder);
    list_free(rule->paths);
    list_free(rule->methods);
}

/* ---- Which requests ---- */

/* What git (its own protocol and that of git-lfs) asks of a server. */
static const char *const git_paths[] = {"/**/info/refs", "/**/git-upload-pack",
                                        "/**/git-receive-pack", "/**/info/lfs/**",
                                        "/**/gitlab-lfs/**"};

/* A path is taken as what it may be read as: a rule must cover every reading.  The letters' case
 * does not count, as with the owners and repositories of forges. */
static bool path_is(const char *glob, const struct inject_reading *reading)
{
    if (reading->path.unclear) {
        return path_glob_is_all(glob);
    }
    return path_glob_matches(glob, &reading->path, true) &&
           (!reading->path.has_escaped_slash || path_glob_matches(glob, &reading->opened, true));
}

static bool has_parameter(const struct http_head *head, const char *parameter)
{
    size_t n = strlen(parameter);
    const char *end = head->path + head->path_len;
    const char *p = head->path_len ? memchr(head->path, '?', head->path_len) : NULL;
    while (p) {
        p++;
        const char *stop = memchr(p, '&', (size_t)(end - p));
        if ((size_t)((stop ? stop : end) - p) == n && memcmp(p, parameter, n) == 0) {
            return true;
        }
        p = stop;
    }
    return false;
}

static void read_path(const struct http_head *head, struct inject_reading *reading)
{
    reading->done = true;
    path_read(head->path, head->path_len, &reading->path);
    if (!reading->path.unclear && reading->path.has_escaped_slash) {
        reading->opened = reading->path;
        path_open_slashes(&reading->opened);
    }
    reading->git = has_parameter(head, "go-get=1");
    for (size_t i = 0; !reading->git && i < SB_ARRAY_LEN(git_paths); i++) {
        reading->git = path_is(git_paths[i], reading);
    }
}

static bool path_matches(const struct inject_rule *rule, const struct http_head *head,
                         struct inject_reading *reading)
{
    if (!rule->paths && !rule->git) {
        return true;
    }
    if (!reading->done) {
        read_path(head, reading);
    }
    if (rule->git && !reading->git) {
        return false;
    }
    char *const *path = rule->paths;
    while (path && *path && !path_is(*path, reading)) {
        path++;
    }
    return !path || *path;
}

static bool method_matches(const struct inject_rule *rule, const struct http_head *head)
{
    char *const *method = rule->methods;
    while (method && *method && !http_method_is(head, *method)) {
        method++;
    }
    return !method || *method;
}

bool inject_rule_covers(const struct inject_rule *rule, const struct host *host, uint16_t port)
{
    return rule->has_place && pattern_matches(&rule->place, host, port);
}

bool inject_rule_matches(const struct inject_rule *rule, const struct inject_request *request,
                         struct inject_reading *reading)
{
    return inject_rule_covers(rule, request->host, request->port) &&
           method_matches(rule, request->head) && path_matches(rule, request->head, reading);
}

bool inject_rule_is_routing(const struct inject_rule *rule)
{
    return rule->mode < INJECT_PLACEHOLDER && !rule->header[0] && !rule->basic;
}

const char *inject_rule_header(const struct inject_rule *rule)
{
    return rule->header[0] ? rule->header : "Authorization";
}
