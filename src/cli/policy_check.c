/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy check`: asks the same question as the proxy, and says which rule answered it, what
 * would change the answer, and which way an allowed request would take. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "cli/policy.h"
#include "cli/policy_scope.h"
#include "policy/pin.h"
#include "policy/rule.h"
#include "policy/store.h"
#include "settings/no_proxy.h"
#include "settings/proxy_url.h"
#include "settings/store.h"
#include "settings/upstream_choice.h"

const struct cli_flag cli_flags_policy_check[] = {
    POLICY_FLAG_SANDBOX,
    {"method", 0, CLI_STRING, "METHOD", "Method of the request (default: GET)"},
    POLICY_FLAG_JSON,
    {0},
};

enum { METHOD_TEXT_MAX = 16, VERDICTS_MAX = 16 };

struct target {
    const char *text; /* as the person wrote it */
    const char *sandbox;
    struct host host;
    uint16_t port;
    char method[METHOD_TEXT_MAX];
    const char *path; /* within `text`, or "/" */
    size_t path_len;
};

/* What the proxy would say, by one set of rules. */
struct verdict {
    struct policy *policy; /* owned: the decision points into it */
    struct policy_decision decision;
    bool allow;
    bool by_request; /* HTTP rules hold there: method and path were judged */
};

static void sb_cleanup_verdict(struct verdict *verdict)
{
    policy_free(verdict->policy);
    *verdict = (struct verdict){0};
}

/* ---- the question ---- */

/* The default port of a URL's scheme; 0 when none is known. */
static uint16_t scheme_port(const char *scheme, size_t n)
{
    bool http = n == 4 && strncasecmp(scheme, "http", 4) == 0;
    bool https = n == 5 && strncasecmp(scheme, "https", 5) == 0;
    return http ? 80 : https ? 443 : 0;
}

/* host, host:port or a URL. */
static int parse_place(const char *text, struct target *ret, struct sb_err **err)
{
    const char *authority = text, *scheme = strstr(text, "://");
    uint16_t port = 443;
    if (scheme) {
        port = scheme_port(text, (size_t)(scheme - text));
        authority = scheme + 3;
    }
    size_t n = scheme ? strcspn(authority, "/?#") : strlen(authority);
    int r = host_parse_authority(authority, n, port, &ret->host, &ret->port, err);
    if (r < 0) {
        if (err && *err) {
            sb_err_set_place(err, NULL, 1, (*err)->place.column + (size_t)(authority - text),
                             (*err)->place.length, text);
        }
        return r;
    }
    if (!ret->port) {
        r = sb_fail(err, SB_EUSAGE, "no default port is known for this URL's scheme");
        sb_hint(err, "write %.*s:PORT", (int)n, authority);
        return r;
    }
    host_map_alias(&ret->host);
    ret->path = authority + n;
    ret->path_len = strcspn(ret->path, "#");
    if (*ret->path != '/') {
        ret->path = "/";
        ret->path_len = 1;
    }
    return 0;
}

static int parse_target(const struct cli_args *args, struct target *ret, struct sb_err **err)
{
    struct policy_scope scope;
    const char *method = cli_string(args, "method");
    policy_scope_begin(args, 0, &scope);
    ret->sandbox = cli_string(args, "sandbox");
    if (!ret->sandbox && scope.nwords == 2) {
        ret->sandbox = scope.words[0]; /* "check SANDBOX TARGET", as for allow and deny */
        scope.words++;
        scope.nwords--;
    }
    if (scope.nwords != 1) {
        return sb_fail(err, SB_EUSAGE, "expected one host, host:port or URL to check");
    }
    method = method ? method : "GET";
    size_t n = strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-");
    if (!n || method[n] || n >= METHOD_TEXT_MAX) {
        return sb_fail(err, SB_EUSAGE, "--method is the method of one request, such as POST");
    }
    for (size_t i = 0; i < n; i++) {
        ret->method[i] = (char)toupper((unsigned char)method[i]);
    }
    ret->text = scope.words[0];
    int r = policy_refuse_user(ret->text, err);
    return r < 0 ? r : parse_place(ret->text, ret, err);
}

/* ---- the answer ---- */

/* Where the name leads without asking anybody: its pin, or itself. */
static const struct in6_addr *known_address(const struct target *target, const struct pin *pin,
                                            uint16_t *ret_port)
{
    *ret_port = pin && pin->port ? pin->port : target->port;
    return pin ? &pin->address.address : target->host.is_address ? &target->host.address : NULL;
}

static void judge_address(const struct target *target, const struct pin *pin,
                          struct verdict *verdict)
{
    uint16_t port;
    const struct in6_addr *address = known_address(target, pin, &port);
    struct policy_decision *decision = &verdict->decision;
    if (!address || !decision->allow) {
        return;
    }
    const struct policy_rule *denied = policy_denies_address(verdict->policy, address, port);
    verdict->allow = pin ? policy_allows_pinned(verdict->policy, decision, address, port)
                         : policy_allows_address(verdict->policy, decision, address, port);
    if (denied) {
        *decision = (struct policy_decision){.rule = denied};
    }
}

static int judge(const struct target *target, const json_t *rules, const struct pin *pin,
                 struct verdict *ret, struct sb_err **err)
{
    int r = policy_from_json(rules, &ret->policy, err);
    if (r < 0) {
        return r;
    }
    struct policy_request request = {.host = &target->host, .port = target->port};
    policy_decide(ret->policy, &request, &ret->decision);
    ret->by_request = ret->decision.needs_request;
    if (ret->by_request) {
        request.method = target->method;
        request.method_len = strlen(target->method);
        request.path = target->path;
        request.path_len = target->path_len;
        policy_decide(ret->policy, &request, &ret->decision);
    }
    ret->allow = ret->decision.allow;
    judge_address(target, pin, ret);
    return 0;
}

static const char *reason_of(const struct verdict *verdict)
{
    if (verdict->decision.allow) {
        return verdict->allow ? "rule" : "address";
    }
    return verdict->decision.rule ? "rule" : "default-deny";
}

/* ---- the way there ---- */

/* The upstream proxy that an allowed request would take, in a sandbox that is started by a command
 * with this one's environment: {"url","from"}, or JSON null. */
static int find_way(const struct target *target, const struct pin *pin,
                    const struct verdict *verdict, json_t **ret, struct sb_err **err)
{
    SB_CLEANUP(json) json_t *settings = NULL, *environment = upstream_environment(), *choice = NULL;
    int r = settings_load(&settings, err);
    r = r < 0 ? r : upstream_choose(settings, environment, &choice, err);
    if (r < 0) {
        return r;
    }
    *ret = json_null();
    if (!verdict->allow || pin || json_is_null(choice)) {
        return 0;
    }
    SB_CLEANUP(proxy_url) struct proxy_url url = {0};
    r = proxy_url_parse(sb_json_str(choice, "url"), &url, err);
    if (r < 0) {
        return r;
    }
    struct no_proxy *list = no_proxy_new(sb_json_str(choice, "no_proxy"), NULL);
    if (no_proxy_leaves(list, &target->host, target->port)) {
        SB_CLEANUP(free) char *shown = proxy_url_shown(&url);
        *ret = json_pack("{s:s,s:s}", "url", shown, "from", sb_json_str(choice, "from"));
    }
    no_proxy_free(list);
    return 0;
}

/* ---- what would change it ---- */

/* The length of the path when it can stand in a rule, and plain in a shell; else 0. */
static size_t plain_path(const struct target *target)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._~@:+-";
    size_t n = strcspn(target->path, "?#");
    n = n < target->path_len ? n : target->path_len;
    return strspn(target->path, plain) >= n && path_glob_check(target->path, n, NULL) == 0 ? n : 0;
}

/* "example.com:443" as rules name it. */
static char *place_text(const struct target *target)
{
    bool v6 = strchr(target->host.text, ':') != NULL;
    return sb_xasprintf("%s%s%s:%u", v6 ? "[" : "", target->host.text, v6 ? "]" : "", target->port);
}

static void remove_rule(json_t *rules, const char *id)
{
    for (size_t i = json_array_size(rules); i > 0; i--) {
        const char *other = sb_json_str(json_array_get(rules, i - 1), "id");
        if (other && strcmp(other, id) == 0) {
            json_array_remove(rules, i - 1);
        }
    }
}

/* The command that takes a deny rule away, or NULL for one that the person did not write. */
static char *removal_of(const struct target *target, const struct policy_rule *rule)
{
    if (strcmp(rule->origin, "global") == 0) {
        return sb_xasprintf("sbx policy rm -g --id %s", rule->id);
    }
    if (strcmp(rule->origin, "sandbox") == 0) {
        return sb_xasprintf("sbx policy rm %s --id %s", target->sandbox, rule->id);
    }
    return NULL;
}

static void append_text(json_t *list, const char *text)
{
    json_array_append_new(list, json_string(text));
}

/* Would this rule of the person's let it through? */
static int try_allow(const struct target *target, json_t *rules, const struct pin *pin,
                     const char *words, bool *ret, struct sb_err **err)
{
    SB_CLEANUP(verdict) struct verdict verdict = {0};
    SB_CLEANUP(free) char *text = sb_xasprintf("allow %s", words);
    json_array_append_new(rules, json_pack("{s:s,s:s}", "text", text, "origin", "global"));
    int r = judge(target, rules, pin, &verdict, err);
    *ret = verdict.allow;
    return r;
}

/* The words of a rule for just this, as a line has them and as a command has them. */
struct suggestion {
    char *words, *command;
};

static void sb_cleanup_suggestion(struct suggestion *suggestion)
{
    free(suggestion->words);
    free(suggestion->command);
}

static void suggest(const struct target *target, const struct verdict *now, const char *verb,
                    struct suggestion *ret)
{
    SB_CLEANUP(free) char *place = place_text(target);
    const char *scope = target->sandbox ? target->sandbox : "-g";
    bool nameless = rule_method_bit(target->method, strlen(target->method)) & RULE_METHOD_OTHER;
    const char *method = nameless ? "ANY" : target->method;
    size_t n = plain_path(target);
    if (!now->by_request) {
        ret->words = sb_xstrdup(place);
        ret->command = sb_xasprintf("sbx policy %s %s %s", verb, scope, place);
    } else if (!n) {
        ret->words = sb_xasprintf("%s method %s", place, method);
        ret->command = sb_xasprintf("sbx policy %s %s %s --method %s", verb, scope, place, method);
    } else {
        ret->words = sb_xasprintf("%s method %s path %.*s", place, method, (int)n, target->path);
        ret->command = sb_xasprintf("sbx policy %s %s %s --method %s --path %.*s", verb, scope,
                                    place, method, (int)n, target->path);
    }
}

/* The commands that lead to the other answer, by trying: without the deny rule that decided, the
 * next one may decide, or no rule at all.  Empty when nothing that the person can write does it. */
static int find_changes(const struct target *target, const json_t *rules, const struct pin *pin,
                        const struct verdict *now, json_t *changes, struct sb_err **err)
{
    SB_CLEANUP(suggestion) struct suggestion suggestion = {0};
    suggest(target, now, now->allow ? "deny" : "allow", &suggestion);
    if (now->allow) {
        append_text(changes, suggestion.command);
        return 0;
    }
    SB_CLEANUP(json) json_t *left = json_copy((json_t *)(uintptr_t)rules);
    bool works = false;
    int r = 0;
    for (int i = 0; i < VERDICTS_MAX && r == 0; i++) {
        SB_CLEANUP(verdict) struct verdict next = {0};
        r = judge(target, left, pin, &next, err);
        const struct policy_rule *rule = next.decision.rule;
        if (r < 0 || next.allow) {
            return r;
        }
        if (!rule || rule->allow) {
            append_text(changes, suggestion.command);
            r = try_allow(target, left, pin, suggestion.words, &works, err);
            break;
        }
        SB_CLEANUP(free) char *removal = removal_of(target, rule);
        if (!removal) {
            break;
        }
        append_text(changes, removal);
        remove_rule(left, rule->id);
    }
    if (!works) {
        json_array_clear(changes);
    }
    return r;
}

/* ---- showing it ---- */

static void print_rule(const struct verdict *verdict)
{
    const struct policy_rule *rule = verdict->decision.rule;
    if (!rule) {
        puts("  no rule allows it (default-deny)");
    } else if (verdict->allow == verdict->decision.allow) {
        printf("  by rule '%s' (%s, id %s)\n", rule->text, rule->origin, rule->id);
    } else {
        printf("  '%s' (%s) allows it, but this address needs a rule that names it\n", rule->text,
               rule->origin);
    }
}

static void print_verdict(const struct target *target, const struct verdict *verdict,
                          const struct pin *pin, const json_t *way, const json_t *changes)
{
    printf("%s: %s\n", verdict->allow ? "Allowed" : "Denied", target->text);
    if (verdict->by_request) {
        printf("  as %s %.*s: rules for this host look at requests, so TLS is opened there\n",
               target->method, (int)target->path_len, target->path);
    }
    print_rule(verdict);
    if (pin) {
        char address[PIN_TEXT_MAX];
        pin_format_address(pin, address);
        printf("  the name leads to %s (sbx policy host ls)\n", address);
    }
    if (!json_is_null(way)) {
        printf("  through the upstream proxy %s (%s)\n", sb_json_str(way, "url"),
               sb_json_str(way, "from"));
    }
    size_t i;
    const json_t *change;
    json_array_foreach(changes, i, change)
    {
        const char *lead = verdict->allow ? "to deny it: " : "to allow it:";
        printf("  %s %s\n", i ? "            " : lead, json_string_value(change));
    }
    if (!json_array_size(changes)) {
        puts("  a deny rule of a kit or preset wins over every allow rule");
    }
}

static void print_verdict_json(const struct target *target, const struct verdict *verdict,
                               const struct pin *pin, json_t *way, json_t *changes)
{
    const struct policy_rule *rule = verdict->decision.rule;
    char address[PIN_TEXT_MAX] = "";
    if (pin) {
        pin_format_address(pin, address);
    }
    SB_CLEANUP(json)
    json_t *out = json_pack("{s:b,s:s,s:i,s:s?,s:s?,s:s?,s:s,s:s?,s:O,s:O}", "allowed",
                            verdict->allow, "host", target->host.text, "port", target->port, "rule",
                            rule ? rule->text : NULL, "rule_id", rule ? rule->id : NULL, "origin",
                            rule ? rule->origin : NULL, "reason", reason_of(verdict), "pinned",
                            pin ? address : NULL, "upstream_proxy", way, "changes", changes);
    json_object_set_new(out, "method",
                        verdict->by_request ? json_string(target->method) : json_null());
    json_object_set_new(out, "path",
                        verdict->by_request ? json_stringn(target->path, target->path_len)
                                            : json_null());
    policy_print_json(out);
}

/* The pin of the target's name, or NULL. */
static int find_pin(const struct target *target, struct pin *space, const struct pin **ret,
                    struct sb_err **err)
{
    SB_CLEANUP(json) json_t *pins = json_array();
    int r = policy_store_pins(target->sandbox, pins, err);
    size_t i;
    const json_t *item;
    *ret = NULL;
    json_array_foreach(pins, i, item)
    {
        const char *address = sb_json_str(item, "address");
        if (strcmp(sb_json_str(item, "name"), target->host.text) == 0 &&
            pin_parse_address(address, strlen(address), space, NULL) == 0) {
            *ret = space;
        }
    }
    return r;
}

int cmd_policy_check(const struct cli_args *args, int *ret_status, struct sb_err **err)
{
    struct target target = {0};
    struct pin space = {0};
    const struct pin *pin = NULL;
    SB_CLEANUP(verdict) struct verdict verdict = {0};
    SB_CLEANUP(json) json_t *rules = json_array();
    SB_CLEANUP(json) json_t *changes = json_array();
    SB_CLEANUP(json) json_t *way = NULL;
    int r = parse_target(args, &target, err);
    r = r < 0 ? r : policy_load_rules(target.sandbox, rules, err);
    r = r < 0 ? r : find_pin(&target, &space, &pin, err);
    r = r < 0 ? r : judge(&target, rules, pin, &verdict, err);
    r = r < 0 ? r : find_changes(&target, rules, pin, &verdict, changes, err);
    r = r < 0 ? r : find_way(&target, pin, &verdict, &way, err);
    if (r < 0) {
        return r;
    }
    if (cli_bool(args, "json")) {
        print_verdict_json(&target, &verdict, pin, way, changes);
    } else {
        print_verdict(&target, &verdict, pin, way, changes);
    }
    *ret_status = verdict.allow ? 0 : 1;
    return 0;
}
