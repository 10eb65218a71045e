/* SPDX-License-Identifier: Apache-2.0
 * `sbx policy check`: asks the same question as the proxy, and says which rule answered it and what
 * would change the answer. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "cli/policy.h"
#include "cli/policy_scope.h"
#include "policy/path.h"
#include "policy/pin.h"
#include "policy/store.h"

const struct cli_flag cli_flags_policy_check[] = {
    POLICY_FLAG_SANDBOX,
    {"method", 0, CLI_STRING, "METHOD", "of the request (default: GET)"},
    POLICY_FLAG_JSON,
    {0},
};

enum { METHOD_TEXT_MAX = 16, VERDICTS_MAX = 8 };

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

/* The default port of a URL's scheme. */
static int scheme_port(const char *scheme, size_t n, uint16_t *ret, struct sb_err **err)
{
    bool http = n == 4 && strncasecmp(scheme, "http", 4) == 0;
    if (!http && !(n == 5 && strncasecmp(scheme, "https", 5) == 0)) {
        int r = sb_fail(err, SB_EUSAGE, "no default port is known for this URL's scheme");
        sb_hint(err, "write HOST:PORT");
        return r;
    }
    *ret = http ? 80 : 443;
    return 0;
}

/* host, host:port or a URL. */
static int parse_place(const char *text, struct target *ret, struct sb_err **err)
{
    const char *authority = text, *scheme = strstr(text, "://");
    uint16_t port = 443;
    if (scheme) {
        int r = scheme_port(text, (size_t)(scheme - text), &port, err);
        if (r < 0) {
            return r;
        }
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
    return parse_place(ret->text, ret, err);
}

/* ---- the answer ---- */

static bool address_allowed(const struct target *target, const struct verdict *verdict,
                            const struct pin *pin)
{
    if (pin) {
        return policy_allows_pinned(verdict->policy, &verdict->decision, &pin->address.address,
                                    pin->port ? pin->port : target->port);
    }
    return !target->host.is_address || policy_allows_address(verdict->policy, &verdict->decision,
                                                             &target->host.address, target->port);
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
    ret->allow = ret->decision.allow && address_allowed(target, ret, pin);
    return 0;
}

static const char *reason_of(const struct verdict *verdict)
{
    if (verdict->decision.allow) {
        return verdict->allow ? "rule" : "address";
    }
    return verdict->decision.rule ? "rule" : "default-deny";
}

/* ---- what would change it ---- */

/* " --method GET --path /a", of plain characters: the words are for a shell. */
static char *request_flags(const struct target *target, const struct verdict *verdict)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._~@:+-";
    size_t n = 0;
    while (n < target->path_len && strchr(plain, target->path[n])) {
        n++;
    }
    bool whole = n == target->path_len && path_glob_check(target->path, n, NULL) == 0;
    if (!verdict->by_request) {
        return sb_xstrdup("");
    }
    return whole ? sb_xasprintf(" --method %s --path %.*s", target->method, (int)n, target->path)
                 : sb_xasprintf(" --method %s", target->method);
}

/* "example.com:443" as rules name it. */
static char *place_text(const struct target *target)
{
    bool v6 = strchr(target->host.text, ':') != NULL;
    return sb_xasprintf("%s%s%s:%u", v6 ? "[" : "", target->host.text, v6 ? "]" : "", target->port);
}

/* Without the rule of this id. */
static json_t *rules_without(const json_t *rules, const char *id)
{
    json_t *out = json_array();
    size_t i;
    const json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        if (strcmp(sb_json_str(rule, "id"), id) != 0) {
            json_array_append(out, (json_t *)(uintptr_t)rule);
        }
    }
    return out;
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

/* The commands that lead to the other answer, by trying: without the deny rule that decided, the
 * next one may decide, or no rule at all.  Empty when nothing that the person can write does it. */
static int find_changes(const struct target *target, const json_t *rules, const struct pin *pin,
                        const struct verdict *now, json_t *changes, struct sb_err **err)
{
    const char *scope = target->sandbox ? target->sandbox : "-g";
    SB_CLEANUP(free) char *place = place_text(target);
    SB_CLEANUP(free) char *flags = request_flags(target, now);
    SB_CLEANUP(json) json_t *left = json_incref((json_t *)(uintptr_t)rules);
    if (now->allow) {
        SB_CLEANUP(free) char *deny = sb_xasprintf("sbx policy deny %s %s%s", scope, place, flags);
        append_text(changes, deny);
        return 0;
    }
    for (int i = 0; i < VERDICTS_MAX; i++) {
        SB_CLEANUP(verdict) struct verdict next = {0};
        int r = judge(target, left, pin, &next, err);
        if (r < 0 || next.allow) {
            return r;
        }
        if (!next.decision.rule || next.decision.allow) {
            SB_CLEANUP(free)
            char *allow = sb_xasprintf("sbx policy allow %s %s%s", scope, place, flags);
            append_text(changes, allow);
            return 0;
        }
        SB_CLEANUP(free) char *removal = removal_of(target, next.decision.rule);
        if (!removal) {
            break;
        }
        append_text(changes, removal);
        json_t *fewer = rules_without(left, next.decision.rule->id);
        json_decref(left);
        left = fewer;
    }
    json_array_clear(changes);
    return 0;
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
                          const struct pin *pin, const json_t *changes)
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
                               const struct pin *pin, json_t *changes)
{
    const struct policy_rule *rule = verdict->decision.rule;
    char address[PIN_TEXT_MAX] = "";
    if (pin) {
        pin_format_address(pin, address);
    }
    SB_CLEANUP(json)
    json_t *out =
        json_pack("{s:b,s:s,s:i,s:s?,s:s?,s:s?,s:s,s:s?,s:O}", "allowed", verdict->allow, "host",
                  target->host.text, "port", target->port, "rule", rule ? rule->text : NULL,
                  "rule_id", rule ? rule->id : NULL, "origin", rule ? rule->origin : NULL, "reason",
                  reason_of(verdict), "pinned", pin ? address : NULL, "changes", changes);
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
    int r = parse_target(args, &target, err);
    r = r < 0 ? r : policy_load_rules(target.sandbox, rules, err);
    r = r < 0 ? r : find_pin(&target, &space, &pin, err);
    r = r < 0 ? r : judge(&target, rules, pin, &verdict, err);
    r = r < 0 ? r : find_changes(&target, rules, pin, &verdict, changes, err);
    if (r < 0) {
        return r;
    }
    if (cli_bool(args, "json")) {
        print_verdict_json(&target, &verdict, pin, changes);
    } else {
        print_verdict(&target, &verdict, pin, changes);
    }
    *ret_status = verdict.allow ? 0 : 1;
    return 0;
}
