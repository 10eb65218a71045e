/* SPDX-License-Identifier: Apache-2.0
 * Request log records, counted by sandbox, place, way, rule and decision.  The sandbox chooses the
 * hosts, so the number of rows is bounded; what does not fit is counted as such. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "policy/fields.h"

struct log_row {
    char *sandbox, *host, *path, *rule, *reason, *last; /* `last`: RFC 3339, of the latest record */
    char *missing; /* the service whose secret the requests went without, or NULL */
    bool allow;
    long long port;
    size_t count;
};

struct log_summary {
    struct log_row *rows;
    size_t count;
    size_t left_out; /* records without a row */
    json_t *index;   /* private: key -> index of the row */
    struct sb_buf key;
};

void log_summary_init(struct log_summary *summary);
void log_summary_done(struct log_summary *summary);
static inline void sb_cleanup_log_summary(struct log_summary *summary)
{
    log_summary_done(summary);
}
void log_summary_add(struct log_summary *summary, const struct log_fields *record);
/* Latest first. */
void log_summary_sort(struct log_summary *summary);
