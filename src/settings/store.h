/* SPDX-License-Identifier: Apache-2.0
 * What a person set once for all sandboxes: $CONFIG/settings/settings.json, one object of keys.
 *
 * The file may hold the password of a proxy, so only its owner can read it.  What a value means
 * belongs to whoever uses the key; which keys there are, to the command line. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

#define SETTING_EXTRA_CA  "tls.extra-ca"   /* {"pem", "certificates": [{"subject","until","ca"}]} */
#define SETTING_UPSTREAM  "proxy.upstream" /* proxy_url.h */
#define SETTING_NO_PROXY  "proxy.no-proxy" /* no_proxy.h */
#define SETTING_ISOLATION "isolation"      /* "auto", "vm" or "ns" */

/* All that is set. */
int settings_load(json_t **ret, struct sb_err **err);
/* Sets a key, or forgets it when `value` (borrowed) is NULL.  *ret_was_set: it was set before. */
int settings_change(const char *key, json_t *value, bool *ret_was_set, struct sb_err **err);
