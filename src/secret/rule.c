/* SPDX-License-Identifier: Apache-2.0 */
#include "secret/rule.h"

#include <string.h>
#include <strings.h>

#include "base/msg.h"
#include "policy/path.h"
#include "policy/pattern.h"

static bool given(const char *text)
{
    return text != NULL;
}

/* Is a form of the value named, so that it is written whatever the request holds? */
static bool names_form(const struct secret_custom *custom)
{
    return given(custom->scheme) || given(custom->username) || given(custom->header) ||
           given(custom->format);
}

bool secret_custom_shapes(const struct secret_custom *custom)
{
    return names_form(custom) || given(custom->preset) || given(custom->mode) || custom->npaths ||
           custom->nmethods || custom->in_url || custom->in_body || custom->strip_cookies;
}

/* ---- What may stand where ---- */

/* An error of another module about a text of ours: its place is in that text. */
static int refuse(struct sb_err **err, int code, const char *flag, const char *text)
{
    sb_wrap(err, code, "--%s '%.300s'", flag, text);
    return SB_EUSAGE;
}

static int check_places(const struct secret_custom *custom, struct sb_err **err)
{
    struct pattern pattern;
    for (size_t i = 0; i < custom->nhosts; i++) {
        int r = pattern_parse(custom->hosts[i], strlen(custom->hosts[i]), &pattern, err);
        if (r < 0) {
            return refuse(err, r, "host", custom->hosts[i]);
        }
        if (pattern.kind == PATTERN_ALL) {
            return sb_fail(err, SB_EUSAGE, "--host '%s': a secret needs hosts that you can name",
                           custom->hosts[i]);
        }
    }
    for (size_t i = 0; i < custom->npaths; i++) {
        int r = path_glob_check(custom->paths[i], strlen(custom->paths[i]), err);
        if (r < 0) {
            return refuse(err, r, "path", custom->paths[i]);
        }
    }
    for (size_t i = 0; i < custom->nmethods; i++) {
        const char *method = custom->methods[i];
        size_t n = strlen(method);
        if (!n || n > 20 || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != n) {
            return sb_fail(err, SB_EUSAGE, "--method '%.40s': expected a name such as GET", method);
        }
    }
    return 0;
}

static bool is_field_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 128 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == n;
}

static bool is_printable(const char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

static int check_form(const struct secret_custom *custom, struct sb_err **err)
{
    const char *scheme = custom->scheme, *format = custom->format, *user = custom->username;
    bool basic = scheme && strcmp(scheme, "basic") == 0;
    const char *slot = format ? strstr(format, "%s") : NULL;
    if (scheme && !basic && strcmp(scheme, "bearer") != 0) {
        return sb_fail(err, SB_EUSAGE, "--scheme '%.40s': expected basic or bearer", scheme);
    }
    if (scheme && format) {
        return sb_fail(err, SB_EUSAGE, "--scheme and --format exclude each other");
    }
    if (user && !basic) {
        return sb_fail(err, SB_EUSAGE, "--username goes with --scheme basic");
    }
    if (user && (strchr(user, ':') || !is_printable(user))) {
        return sb_fail(err, SB_EUSAGE, "--username cannot hold ':' or a control character");
    }
    if (format && (!slot || strstr(slot + 2, "%s") || !is_printable(format))) {
        return sb_fail(err, SB_EUSAGE, "--format '%.80s': expected text with one %%s", format);
    }
    if (format && !custom->header) {
        return sb_fail(err, SB_EUSAGE, "--format needs --header, the field that it is for");
    }
    if (custom->header && !is_field_name(custom->header)) {
        return sb_fail(err, SB_EUSAGE, "--header '%.80s' is not the name of a field",
                       custom->header);
    }
    return 0;
}

static int check_mode(const struct secret_custom *custom, struct sb_err **err)
{
    static const char *const modes[] = {"overwrite", "if-absent", "placeholder"};
    const char *mode = custom->mode;
    bool known = !mode, form = names_form(custom);
    for (size_t i = 0; mode && i < SB_ARRAY_LEN(modes); i++) {
        known |= strcmp(mode, modes[i]) == 0;
    }
    if (!known) {
        return sb_fail(err, SB_EUSAGE,
                       "--mode '%.40s': expected overwrite, if-absent or placeholder", mode);
    }
    bool placeholder = mode ? strcmp(mode, "placeholder") == 0 : !form;
    if (placeholder && form) {
        return sb_fail(err, SB_EUSAGE,
                       "--mode placeholder takes no form: the sandbox writes it around the "
                       "placeholder");
    }
    if (!placeholder && !form) {
        return sb_fail(err, SB_EUSAGE, "--mode %s needs --scheme or --header", mode);
    }
    if (!placeholder && (custom->in_url || custom->in_body)) {
        return sb_fail(err, SB_EUSAGE,
                       "--in-%s is about the placeholder, which this rule does not "
                       "look for",
                       custom->in_url ? "url" : "body");
    }
    return 0;
}

static int check_preset(const struct secret_custom *custom, const struct secret_service **ret,
                        struct sb_err **err)
{
    if (names_form(custom) || custom->mode || custom->npaths || custom->in_url || custom->in_body) {
        return sb_fail(err, SB_EUSAGE,
                       "--preset says all about the requests: it takes no --path, "
                       "--mode, --scheme, --header or --in-*");
    }
    const struct secret_service *service = secret_service_find(custom->preset);
    if (!service || (!service->own[0].username && !service->own[0].header)) {
        sb_fail(err, SB_EUSAGE, "--preset '%.40s' is unknown", custom->preset);
        sb_hint(err, "for forges: git, github, gitlab, gitea, bitbucket, azure-devops; also the "
                     "names of model services, such as openai");
        return SB_EUSAGE;
    }
    *ret = service;
    return 0;
}

/* ---- The rules ---- */

static void set_text(json_t *rule, const char *key, const char *text)
{
    if (text && *text) {
        json_object_set_new(rule, key, json_string(text));
    }
}

static void set_list(json_t *rule, const char *key, const char *const *items, size_t n)
{
    if (n) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++) {
            json_array_append_new(list, json_string(items[i]));
        }
        json_object_set_new(rule, key, list);
    }
}

static void set_flag(json_t *rule, const char *key, bool value)
{
    if (value) {
        json_object_set_new(rule, key, json_true());
    }
}

json_t *secret_rule_of_form(const struct secret_form *form, const char *host)
{
    json_t *rule =
        json_pack("{s:s, s:s}", "host", form->host ? form->host : host, "mode", "overwrite");
    if (form->path) {
        set_list(rule, "paths", &form->path, 1);
    }
    if (form->username) {
        json_object_set_new(rule, "scheme", json_string("basic"));
        set_text(rule, "username", form->username);
    }
    set_text(rule, "header", form->header);
    set_text(rule, "format", form->format);
    return rule;
}

static json_t *own_rule(const struct secret_custom *custom, const char *host)
{
    bool bearer = custom->scheme && strcmp(custom->scheme, "bearer") == 0;
    const char *mode = custom->mode         ? custom->mode
                       : names_form(custom) ? "overwrite"
                                            : "placeholder";
    json_t *rule = json_pack("{s:s, s:s}", "host", host, "mode", mode);
    set_list(rule, "paths", custom->paths, custom->npaths);
    set_list(rule, "methods", custom->methods, custom->nmethods);
    set_text(rule, "scheme", bearer ? NULL : custom->scheme);
    set_text(rule, "username", custom->username);
    set_text(rule, "header", bearer && !custom->header ? "Authorization" : custom->header);
    set_text(rule, "format", bearer ? "Bearer %s" : custom->format);
    set_flag(rule, "in_url", custom->in_url);
    set_flag(rule, "in_body", custom->in_body);
    return rule;
}

static void add_preset(json_t *rules, const struct secret_custom *custom,
                       const struct secret_service *service)
{
    size_t count = custom->nhosts ? custom->nhosts : 1;
    for (size_t h = 0; h < count; h++) {
        const char *host = custom->nhosts ? custom->hosts[h] : NULL;
        const struct secret_form *form = host ? service->own : service->forms;
        for (; form->username || form->header; form++) {
            json_t *rule = secret_rule_of_form(form, host);
            set_list(rule, "methods", custom->methods, custom->nmethods);
            json_array_append_new(rules, rule);
        }
    }
}

int secret_rules_make(const struct secret_custom *custom, json_t **ret, struct sb_err **err)
{
    const struct secret_service *service = NULL;
    int r = check_places(custom, err);
    if (r == 0 && custom->preset) {
        r = check_preset(custom, &service, err);
    } else if (r == 0) {
        r = check_form(custom, err);
        r = r < 0 ? r : check_mode(custom, err);
    }
    if (r < 0) {
        return r;
    }
    if (!custom->nhosts &&
        (!service || (!service->forms[0].username && !service->forms[0].header))) {
        return sb_fail(err, SB_EUSAGE, "a custom secret needs --host HOST");
    }
    SB_CLEANUP(json) json_t *rules = json_array();
    for (size_t i = 0; !service && i < custom->nhosts; i++) {
        json_array_append_new(rules, own_rule(custom, custom->hosts[i]));
    }
    if (service) {
        add_preset(rules, custom, service);
    }
    size_t i;
    json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        set_flag(rule, "strip_cookies", custom->strip_cookies);
    }
    *ret = sb_steal(&rules);
    return 0;
}

bool secret_rules_name(const json_t *rules, const char *host)
{
    size_t i;
    const json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        const char *its_host = sb_json_str(rule, "host");
        if (its_host && strcasecmp(its_host, host) == 0) {
            return true;
        }
    }
    return false;
}
