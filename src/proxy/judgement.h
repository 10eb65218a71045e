/* SPDX-License-Identifier: Apache-2.0
 * What was decided about one request or one tunnel, and its line in the log: exactly one, written
 * at once when it is refused and at its end when it is allowed. */
#pragma once

#include "policy/policy.h"
#include "proxy/http.h"
#include "proxy/record.h"

struct judgement {
    struct host host;
    uint16_t port;
    struct policy_decision decision;
    struct record record;
    bool open; /* allowed, and not logged yet */
};

/* A method is judged whole or not at all: a longer one than this must be refused before judge(). */
bool judge_knows_method(const struct http_head *head);
/* Judges host and port.  `head` is the request, NULL for a tunnel.  `way` is the word of the log:
 * "forward", "forward-bypass", "transparent" or "network". */
bool judge(struct proxy *proxy, struct judgement *judgement, const struct http_head *head,
           const char *way);
/* Must requests to this place be seen one by one?  Only then is TLS terminated. */
bool judge_needs_requests(const struct proxy *proxy, const struct host *host, uint16_t port);
/* Why rules about requests could not hold for what an allowed request leads to (a field or
 * parameter that names another method, an upgrade behind which nothing is seen), or NULL. */
const char *judge_hidden(const struct proxy *proxy, const struct judgement *judgement,
                         const struct http_head *head);
/* The policy has been replaced: is it still allowed?  Refreshes the decision. */
bool judge_again(struct proxy *proxy, struct judgement *judgement);
/* Logs a refusal; `reason` NULL: by the rules. */
void judge_refused(struct proxy *proxy, struct judgement *judgement, const char *reason);
/* Logs an allowed one that has ended, and releases everything. */
void judge_done(struct proxy *proxy, struct judgement *judgement);
/* The text of a refusal, with what the user can do about it.  The caller frees. */
char *judge_explain(const struct proxy *proxy, const struct judgement *judgement,
                    const char *reason);
