/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/record.h"

#include <string.h>

#include "proxy/journal.h"

void record_done(struct record *record)
{
    free(record->rule);
    free(record->rule_id);
    free(record->origin);
    free(record->service);
    free(record->target);
    *record = (struct record){0};
}

void record_set_decision(struct record *record, const struct host *host, uint16_t port,
                         const struct policy_decision *decision)
{
    memcpy(record->host, host->text, sizeof(record->host));
    record->port = port;
    record->allow = decision->allow;
    record->reason = decision->rule ? "rule" : "default-deny";
    if (decision->rule) {
        record->rule = sb_xstrdup(decision->rule->text);
        record->rule_id = sb_xstrdup(decision->rule->id);
        record->origin = sb_xstrdup(decision->rule->origin);
    }
}

void record_bad_request(struct record *record, const char *path, const char *detail)
{
    record->allow = false;
    record->path = path;
    record->reason = "bad-request";
    record->detail = detail;
}

bool record_log_works(struct proxy *proxy)
{
    return journal_works(proxy->journal);
}

const char *record_log_problem(struct proxy *proxy)
{
    return journal_problem(proxy->journal);
}

void record_write(struct proxy *proxy, const struct record *record)
{
    uint64_t now_ms = sb_loop_now_ms(proxy->loop);
    char reason[LOG_REASON_MAX];
    if (record->detail) {
        snprintf(reason, sizeof(reason), "%s: %s", record->reason, record->detail);
    }
    struct log_record line = {
        .allow = record->allow,
        .rule = record->rule,
        .rule_id = record->rule_id,
        .origin = record->origin,
        .reason = record->detail ? reason : record->reason,
        .path = record->path,
        .scheme = record->scheme,
        .host = record->host[0] ? record->host : NULL,
        .port = record->port,
        .method = record->method[0] ? record->method : NULL,
        .target = record->target,
        .status = record->status,
        .bytes_out = record->bytes_up,
        .bytes_in = record->bytes_down,
        .ms = record->start_ms ? now_ms - record->start_ms : 0,
        .service = record->service,
        .credential = record->service ? record->unbound ? "unbound" : "injected" : NULL,
    };
    journal_append(proxy->journal, &line);
}
