/* SPDX-License-Identifier: Apache-2.0
 * Counting request log records for `sbx policy log`. */
#include "policy/summary.h"

#include <stdlib.h>
#include <string.h>

#include "policy/log.h"

enum { ROWS_MAX = 20000 };

void log_summary_init(struct log_summary *summary)
{
    *summary = (struct log_summary){.index = json_object()};
    sb_buf_init(&summary->key, LOG_LINE_MAX + 64);
}

static void row_done(struct log_row *row)
{
    free(row->sandbox);
    free(row->host);
    free(row->path);
    free(row->rule);
    free(row->reason);
    free(row->last);
    free(row->missing);
}

void log_summary_done(struct log_summary *summary)
{
    for (size_t i = 0; i < summary->count; i++) {
        row_done(&summary->rows[i]);
    }
    free(summary->rows);
    json_decref(summary->index);
    sb_buf_done(&summary->key);
    *summary = (struct log_summary){0};
}

/* The log can be edited by hand: what is shown on a terminal is made printable again. */
static char *printable(const struct log_fields *record, enum log_text field)
{
    const struct log_view *value = &record->text[field];
    char *out = value->data ? sb_xstrndup(value->data, value->len) : sb_xstrdup("-");
    for (char *p = out; *p; p++) {
        if (*p < ' ' || *p > '~') {
            *p = '?';
        }
    }
    return out;
}

static bool is_unbound(const struct log_fields *record)
{
    const struct log_view *value = &record->text[LOG_CREDENTIAL];
    return value->data && value->len == 7 && memcmp(value->data, "unbound", 7) == 0;
}

static struct log_row row_new(const struct log_fields *record)
{
    return (struct log_row){
        .sandbox = printable(record, LOG_SANDBOX),
        .host = printable(record, LOG_HOST),
        .path = printable(record, LOG_PATH),
        .rule = printable(record, LOG_RULE),
        .reason = printable(record, LOG_REASON),
        .last = printable(record, LOG_T),
        .missing = is_unbound(record) ? printable(record, LOG_SERVICE) : NULL,
        .allow = log_is_allowed(record),
        .port = record->number[LOG_PORT],
    };
}

/* What makes records one row.  A line is shorter than LOG_LINE_MAX, and so is its key. */
static const char *make_key(struct sb_buf *key, const struct log_fields *record)
{
    static const enum log_text fields[] = {LOG_DECISION, LOG_SANDBOX, LOG_HOST,    LOG_PATH,
                                           LOG_RULE,     LOG_REASON,  LOG_SERVICE, LOG_CREDENTIAL};
    sb_buf_clear(key);
    for (size_t i = 0; i < SB_ARRAY_LEN(fields); i++) {
        const struct log_view *value = &record->text[fields[i]];
        sb_buf_append(key, value->data ? value->data : "-", value->data ? value->len : 1);
        sb_buf_append(key, "\n", 1);
    }
    sb_buf_printf(key, "%lld", (long long)record->number[LOG_PORT]);
    return key->data;
}

static struct log_row *find_row(struct log_summary *summary, const struct log_fields *record)
{
    const char *key = make_key(&summary->key, record);
    const json_t *known = json_object_get(summary->index, key);
    if (known) {
        return &summary->rows[json_integer_value(known)];
    }
    if (summary->count == ROWS_MAX) {
        return NULL;
    }
    summary->rows = sb_xrealloc(summary->rows, summary->count + 1, sizeof(*summary->rows));
    json_object_set_new_nocheck(summary->index, key, json_integer((json_int_t)summary->count));
    summary->rows[summary->count] = row_new(record);
    return &summary->rows[summary->count++];
}

void log_summary_add(struct log_summary *summary, const struct log_fields *record)
{
    struct log_row *row = find_row(summary, record);
    if (!row) {
        summary->left_out++;
        return;
    }
    const struct log_view *time = &record->text[LOG_T];
    row->count++;
    if (time->data && time->len == strlen(row->last) &&
        memcmp(time->data, row->last, time->len) > 0) {
        free(row->last);
        row->last = printable(record, LOG_T);
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
