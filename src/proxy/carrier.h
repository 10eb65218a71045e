/* SPDX-License-Identifier: Apache-2.0
 * Where a request can carry a credential besides the place that a rule names.
 *
 * A server may take any of them for the client's identity.  So when we say who the client is, all
 * others go: what stays could make the request act for an account of the sandbox's choice, which
 * then receives what the sandbox sends (CVE-2026-105452).  Fields: http_is_credential(). */
#pragma once

#include "proxy/http.h"

/* Writes path and query without the parameters that carry one; false when there were none.
 * A parameter whose value holds `kept` (NULL: none) stays. */
bool carrier_strip_query(const char *path, size_t n, const char *kept, struct sb_buf *out);
/* The length of the parameter at `piece`, "name=value": to the next separator, or to `end`. */
size_t carrier_parameter_len(const char *piece, const char *end);
/* Has it one of these names (with '-'), as some server may read it? */
bool carrier_parameter_is(const char *piece, size_t n, const char *const *names, size_t count);
/* Same name, when '_' counts as '-' and case does not count: CGI-like servers see no difference. */
bool carrier_same_name(const char *name, size_t n, const char *want);
