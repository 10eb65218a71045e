/* SPDX-License-Identifier: Apache-2.0
 * Credential injection: which stored secret goes into which request, and how.
 *
 * Pure: no I/O.  The set owns the secrets and wipes them.  It must never put a secret into a
 * request to a host that the rule does not cover, nor leave another credential beside the one it
 * sets. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "policy/host.h"
#include "proxy/http.h"

enum inject_mode { INJECT_OVERWRITE, INJECT_IF_ABSENT, INJECT_PLACEHOLDER };

struct inject_rule {
    char *id, *service, *kit;
    char *domain;   /* host pattern of policy_pattern_matches() */
    char *header;   /* "" and no username: routing only, nothing is injected */
    char *format;   /* with one "%s" */
    char *username; /* NULL, or: Basic base64(username:secret) */
    enum inject_mode mode;
    char *placeholder; /* NULL or the sentinel that the sandbox sees instead of the secret */
    char *secret;      /* NULL: unbound */
    size_t secret_len;
    const char *reason; /* why it is unbound although the configuration has a secret, or NULL */
};

struct inject_set;

/* Reads the "inject" array of the proxy configuration (docs/architecture.md).  NULL when it is not
 * an array of objects with the right types.  The JSON keeps its own copy of the secrets: the caller
 * wipes the text that it came from. */
struct inject_set *inject_set_from_json(const json_t *inject_array);
void inject_set_free(struct inject_set *set);
SB_DEFINE_CLEANUP(inject_set, struct inject_set *, inject_set_free)

/* Must TLS to this place be terminated?  Only when a bound rule covers it. */
bool inject_wants(const struct inject_set *set, const struct host *host, uint16_t port);
/* The service whose secret would be wanted there, if it had one; NULL: none. */
const char *inject_missing(const struct inject_set *set, const struct host *host, uint16_t port);

struct inject_result {
    const struct inject_rule *applied; /* NULL: the request goes on untouched */
    bool unbound;                      /* a rule covers the place but has no secret ... */
    const char *service;               /* ... for this service (also set when applied) */
    struct http_edits edits;           /* for http_message_set(); points into this struct */
    /* Private; wiped by inject_result_done(). */
    struct sb_buf value, target;
};

/* Decides about one request.  0, or -1 when a credential could not be placed (it would exceed the
 * size of a head): refuse the request.  `ret` must stay where it is until inject_result_done(),
 * which is always needed after a return of 0. */
int inject_apply(const struct inject_set *set, const struct host *host, uint16_t port,
                 const struct http_head *head, struct inject_result *ret);
void inject_result_done(struct inject_result *result);
