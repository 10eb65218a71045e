/* SPDX-License-Identifier: Apache-2.0
 * One line of the request log for each decision.  Without a log nothing may pass: what cannot be
 * recorded is refused.  A record never holds a header value, a query string or a secret. */
#pragma once

#include <stdint.h>

#include "proxy/proxy.h"

/* Longer than every registered method (UPDATEREDIRECTREF has 17 letters), with its end. */
enum { RECORD_METHOD = 32 };

struct record {
    const char *path; /* "forward", "forward-bypass", "transparent", "network", "dns" */
    char host[HOST_MAX];
    uint16_t port;
    bool allow;
    char *rule, *rule_id, *origin; /* owned; NULL: default deny */
    const char *reason;            /* static text */
    const char *detail;            /* static text, goes behind the reason; or NULL */
    const char *scheme;            /* static text */
    char method[RECORD_METHOD];    /* empty for tunnels; never a part of one */
    char *target;                  /* owned: path, the query is cut off when it is written */
    char *service;                 /* owned: whose credential was injected, or is missing */
    bool unbound;
    int status;
    uint64_t bytes_up, bytes_down;
    uint64_t start_ms;
};

void record_done(struct record *record);
/* A refusal of what could not be read, and so not judged: `detail` says what is wrong with it. */
void record_bad_request(struct record *record, const char *path, const char *detail);
/* Takes host, port and the rule over from a decision, into a record that has none. */
void record_set_decision(struct record *record, const struct host *host, uint16_t port,
                         const struct policy_decision *decision);
/* Writes the line: a refusal's at once, others at the end of this turn of the loop (journal.h). */
void record_write(struct proxy *proxy, const struct record *record);
/* May a request pass?  False when the log's file did not take the last lines, and still does not.
 */
bool record_log_works(struct proxy *proxy);
/* Why not, for people. */
const char *record_log_problem(struct proxy *proxy);
