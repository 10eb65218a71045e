/* SPDX-License-Identifier: Apache-2.0
 * Credential injection: which stored secret goes into which request, and how.
 *
 * Pure: no I/O.  The set owns the secrets and wipes them.  It must never put a secret into a
 * request to a host that the rule does not cover, nor onto the network without TLS, nor leave
 * another credential beside the one it sets. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "policy/host.h"
#include "proxy/http.h"

struct inject_rule;
struct inject_set;
struct needles;
struct capture;

/* Reads the "inject" array of the proxy configuration (docs/architecture.md).  NULL when it is not
 * an array of objects with the right types.  The JSON keeps its own copy of the secrets: the caller
 * wipes the text that it came from. */
struct inject_set *inject_set_from_json(const json_t *inject_array);
void inject_set_free(struct inject_set *set);
SB_DEFINE_CLEANUP(inject_set, struct inject_set *, inject_set_free)

/* Must TLS to this place be terminated?  Only when a bound rule covers it, or a sign-in may happen
 * there. */
bool inject_wants(const struct inject_set *set, const struct host *host, uint16_t port);
/* Is there a rule for this place that looks at methods? */
bool inject_sees_methods(const struct inject_set *set, const struct host *host, uint16_t port);
/* Is there one that sets this field there?  (Then whoever else sets it names another client.) */
bool inject_sets_field(const struct inject_set *set, const struct host *host, uint16_t port,
                       const char *name, size_t n);
/* The service whose secret would be wanted there, if it had one; NULL: none. */
const char *inject_missing(const struct inject_set *set, const struct host *host, uint16_t port);
/* The rule that stands in this set for `rule` of an earlier one, whatever its secret is now; NULL
 * when there is none, or it has no secret: the credential was revoked. */
const struct inject_rule *inject_successor(const struct inject_set *set,
                                           const struct inject_rule *rule);

/* A sign-in gave tokens (the message of capture_answer()): the rules that wait for them have them.
 */
void inject_bind(struct inject_set *set, const json_t *tokens);

struct inject_request {
    const struct host *host;
    uint16_t port;
    bool secure; /* it goes on over TLS */
    const struct http_head *head;
};

enum { INJECT_ACTIVE_MAX = 8 };

struct inject_result {
    const struct inject_rule *applied; /* NULL: the request goes on untouched */
    bool unbound;                      /* a rule covers the place but gives no secret ... */
    const char *service;               /* ... for this service (also set when applied) */
    struct http_edits edits;           /* for http_message_set(); points into this struct */
    struct needles *swap;              /* NULL, or what is replaced in the request's body */
    bool decodes;                      /* set by the caller: its compressed body goes on plain */
    struct needles *scrub;             /* NULL, or the set's: what is masked in the answer */
    struct capture *capture;           /* NULL, or the set's: the answer may hold tokens */
    /* Private; wiped by inject_result_done(). */
    const struct inject_set *set;
    const struct inject_request *request;
    const struct inject_rule *active[INJECT_ACTIVE_MAX]; /* `applied` and those that go with it */
    size_t nactive;
    struct http_field fields[HTTP_SET_MAX];
    struct sb_buf value, target;
};

/* Decides about one request: the first rule that matches it.  0, or -1 when a credential could not
 * be placed (it would exceed the size of a head): refuse the request.  `request` and `ret` must
 * stay where they are until inject_result_done(), which is always needed after a return of 0. */
int inject_apply(const struct inject_set *set, const struct inject_request *request,
                 struct inject_result *ret);
void inject_result_done(struct inject_result *result);
