/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/judgement.h"

#include <assert.h>
#include <string.h>

#include "proxy/carrier.h"
#include "proxy/inject.h"

/* About the request in the record, or, without one, about the connection. */
static void decide(const struct proxy *proxy, struct judgement *judgement)
{
    const struct record *record = &judgement->record;
    struct policy_request request = {.host = &judgement->host, .port = judgement->port};
    if (record->target) {
        request.method = record->method;
        request.method_len = strlen(record->method);
        request.path = record->target;
        request.path_len = strlen(record->target);
    }
    policy_decide(proxy->config->policy, &request, &judgement->decision);
}

bool judge_knows_method(const struct http_head *head)
{
    return head->method_len < RECORD_METHOD;
}

bool judge(struct proxy *proxy, struct judgement *judgement, const struct http_head *head,
           const char *way)
{
    struct record *record = &judgement->record;
    if (head) {
        /* What HTTP/2 connects to by extended CONNECT, HTTP/1.1 asks for by GET: one rule is for
         * both. */
        bool connect = http_method_is(head, "CONNECT");
        assert(connect || judge_knows_method(head));
        snprintf(record->method, sizeof(record->method), "%.*s",
                 connect ? 3 : (int)head->method_len, connect ? "GET" : head->method);
        record->target = sb_xstrndup(head->path, head->path_len);
    }
    decide(proxy, judgement);
    record_set_decision(record, &judgement->host, judgement->port, &judgement->decision);
    record->path = way;
    record->start_ms = sb_loop_now_ms(proxy->loop);
    if (!record_log_works(proxy)) {
        /* What cannot be recorded does not happen. */
        judgement->decision.allow = judgement->decision.needs_request = record->allow = false;
        record->reason = "log-unwritable";
    }
    judgement->open = judgement->decision.allow;
    return judgement->open;
}

bool judge_needs_requests(const struct proxy *proxy, const struct host *host, uint16_t port)
{
    return policy_needs_request(proxy->config->policy, host, port) ||
           inject_wants(proxy->config->inject, host, port);
}

bool judge_again(struct proxy *proxy, struct judgement *judgement)
{
    decide(proxy, judgement);
    if (!judgement->decision.allow) {
        judgement->record.reason = "rule-changed";
    }
    return judgement->decision.allow;
}

void judge_refused(struct proxy *proxy, struct judgement *judgement, const char *reason)
{
    judgement->record.allow = false;
    if (reason) {
        judgement->record.reason = reason;
    }
    judgement->open = false;
    record_write(proxy, &judgement->record);
}

void judge_done(struct proxy *proxy, struct judgement *judgement)
{
    if (judgement->open) {
        judgement->open = false;
        record_write(proxy, &judgement->record);
    }
    record_done(&judgement->record);
}

/* Frameworks take the method from these fields: a rule that looks at methods would be told a lie.
 * They may come several times, and some servers read '_' as '-'. */
static bool overrides_method(const struct http_head *head)
{
    static const char *const names[] = {"x-http-method-override", "x-http-method",
                                        "x-method-override"};
    for (size_t i = 0; i < head->nfields; i++) {
        const struct http_field *field = &head->fields[i];
        bool named = false;
        for (size_t n = 0; n < SB_ARRAY_LEN(names) && !named; n++) {
            named = carrier_same_name(field->name, field->name_len, names[n]);
        }
        if (named && !(field->value_len == head->method_len &&
                       strncasecmp(field->value, head->method, head->method_len) == 0)) {
            return true;
        }
    }
    return false;
}

/* ... or from this parameter. */
static bool query_overrides_method(const struct http_head *head)
{
    static const char *const names[] = {"-method"};
    const char *end = head->path + head->path_len;
    const char *p = head->path_len ? memchr(head->path, '?', head->path_len) : NULL;
    while (p && p < end) {
        const char *piece = p + 1;
        size_t len = carrier_parameter_len(piece, end);
        const char *value = memchr(piece, '=', len);
        value = value ? value + 1 : piece + len;
        size_t n = (size_t)(piece + len - value);
        if (carrier_parameter_is(piece, len, names, SB_ARRAY_LEN(names)) &&
            !(n == head->method_len && strncasecmp(value, head->method, n) == 0)) {
            return true;
        }
        p = piece + len;
    }
    return false;
}

/* Behind an upgrade no requests are seen; a WebSocket is what its one request asked for. */
static bool upgrades_blindly(const struct http_head *head)
{
    return head->protocol_len && !http_text_is(head->protocol, head->protocol_len, "websocket");
}

const char *judge_hidden(const struct proxy *proxy, const struct judgement *judgement,
                         const struct http_head *head)
{
    const struct host *host = &judgement->host;
    bool overrides = overrides_method(head) || query_overrides_method(head);
    if (!overrides && !upgrades_blindly(head)) {
        return NULL;
    }
    if (policy_needs_request(proxy->config->policy, host, judgement->port)) {
        return overrides ? "method-override" : "uninspectable";
    }
    bool by_method = inject_sees_methods(proxy->config->inject, host, judgement->port);
    return overrides && by_method ? "method-override" : NULL;
}

/* Never a rule that would change nothing. */
static char *advise(const struct proxy *proxy, const struct judgement *judgement,
                    const char *reason)
{
    const struct record *record = &judgement->record;
    const char *sandbox = proxy->config->sandbox;
    if (reason && strcmp(reason, "method-override") == 0) {
        return sb_xstrdup("Rules for this host look at methods, and a header or parameter of the "
                          "request names another one than its own\n");
    }
    if (reason && strcmp(reason, "uninspectable") == 0) {
        return sb_xstrdup("Rules for this host look at requests, and behind an upgrade to anything "
                          "but WebSocket none could be seen\n");
    }
    if (reason && strcmp(reason, "address") == 0) {
        return sb_xasprintf("It leads to an address of this host or of a private network, which a "
                            "wildcard, a preset or a kit cannot open.\n"
                            "If that is meant, on the host, for a private network: sbx policy "
                            "allow %s %s:%u\nand for the host's own services: sbx policy allow "
                            "%s localhost:%u, then use host.docker.internal:%u\n",
                            sandbox, record->host, record->port, sandbox, record->port,
                            record->port);
    }
    if (reason) {
        return sb_xstrdup("The host in the request must be the host of the connection\n");
    }
    if (record->rule && strncmp(record->rule, "deny ", 5) == 0) {
        return sb_xstrdup("A deny rule wins over every allow rule; on the host 'sbx policy ls' "
                          "shows it and 'sbx policy rm' removes it\n");
    }
    bool by_method = policy_needs_request(proxy->config->policy, &judgement->host, judgement->port);
    const char *flags = by_method ? " --method METHOD --path PATH" : "";
    return sb_xasprintf("To allow it, on the host: sbx policy allow %s %s:%u%s\n"
                        "For every sandbox: sbx policy allow -g %s:%u%s\n",
                        sandbox, record->host, record->port, flags, record->host, record->port,
                        flags);
}

char *judge_explain(const struct proxy *proxy, const struct judgement *judgement,
                    const char *reason)
{
    const struct record *record = &judgement->record;
    SB_CLEANUP(free)
    char *why = reason         ? sb_xasprintf("reason: %s", reason)
                : record->rule ? sb_xasprintf("rule: %s (%s)", record->rule, record->origin)
                               : sb_xstrdup("no rule allows it");
    SB_CLEANUP(free) char *advice = advise(proxy, judgement, reason);
    return sb_xasprintf("sbx: %s:%u is blocked for this sandbox\n%s\n%s", record->host,
                        record->port, why, advice);
}
