/* SPDX-License-Identifier: Apache-2.0
 * Counting request log records for `sbx policy log`. */
#include "policy/summary.h"

#include <stdlib.h>
#include <string.h>

#include "base/msg.h"

enum { ROWS_MAX = 20000 };

void log_summary_init(struct log_summary *summary)
{
    *summary = (struct log_summary){.index = json_object()};
}

static void row_done(struct log_row *row)
{
    free(row->sandbox);
    free(row->host);
    free(row->path);
    free(row->rule);
    free(row->reason);
    free(row->last);
}

void log_summary_done(struct log_summary *summary)
{
    for (size_t i = 0; i < summary->count; i++) {
        row_done(&summary->rows[i]);
    }
    free(summary->rows);
    json_decref(summary->index);
    *summary = (struct log_summary){0};
}

/* The log can be edited by hand: what is shown on a terminal is made printable again. */
static char *printable(const json_t *record, const char *key)
{
    const char *value = sb_json_str(record, key);
    char *out = sb_xstrdup(value ? value : "-");
    for (char *p = out; *p; p++) {
        if (*p < ' ' || *p > '~') {
            *p = '?';
        }
    }
    return out;
}

static void row_read(const json_t *record, struct log_row *row)
{
    const char *decision = sb_json_str(record, "decision");
    *row = (struct log_row){
        .sandbox = printable(record, "sandbox"),
        .host = printable(record, "host"),
        .path = printable(record, "path"),
        .rule = printable(record, "rule"),
        .reason = printable(record, "reason"),
        .last = printable(record, "t"),
        .allow = decision && strcmp(decision, "allow") == 0,
        .port = (long long)sb_json_int(record, "port", 0),
        .count = 1,
    };
}

void log_summary_add(struct log_summary *summary, const json_t *record)
{
    struct log_row fresh;
    row_read(record, &fresh);
    SB_CLEANUP(free)
    char *key = sb_xasprintf("%d %s %s:%lld %s %s %s", fresh.allow, fresh.sandbox, fresh.host,
                             fresh.port, fresh.path, fresh.rule, fresh.reason);
    const json_t *known = json_object_get(summary->index, key);
    if (known) {
        struct log_row *row = &summary->rows[json_integer_value(known)];
        row->count++;
        if (strcmp(fresh.last, row->last) > 0) {
            char *older = row->last;
            row->last = fresh.last;
            fresh.last = older;
        }
        row_done(&fresh);
    } else if (summary->count < ROWS_MAX) {
        summary->rows = sb_xrealloc(summary->rows, summary->count + 1, sizeof(fresh));
        json_object_set_new(summary->index, key, json_integer((json_int_t)summary->count));
        summary->rows[summary->count++] = fresh;
    } else {
        summary->left_out++;
        row_done(&fresh);
    }
}

static int by_time(const void *a, const void *b)
{
    const struct log_row *left = a, *right = b;
    return strcmp(right->last, left->last);
}

void log_summary_sort(struct log_summary *summary)
{
    json_object_clear(summary->index); /* its indexes are about to become wrong */
    if (summary->count) {
        qsort(summary->rows, summary->count, sizeof(*summary->rows), by_time);
    }
}
