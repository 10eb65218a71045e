/* SPDX-License-Identifier: Apache-2.0
 * The environment that every process in a sandbox starts with. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* What sbx sets, then the plan's variables, then `sentinels` (NAME -> placeholder of a secret); new
 * reference. `as_agent`: the per-user settings that send `npm i -g` and `pip install` below agent's
 * home. */
json_t *environment_compose(const json_t *config, const json_t *sentinels, bool as_agent);
/* The one CA bundle inside, which every usual variable names. */
#define ENVIRONMENT_CA_BUNDLE "/etc/ssl/certs/ca-certificates.crt"
