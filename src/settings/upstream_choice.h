/* SPDX-License-Identifier: Apache-2.0
 * Which upstream proxy holds: SBX_PROXY, else the setting proxy.upstream, else HTTPS_PROXY,
 * HTTP_PROXY or ALL_PROXY (in either case), of the command that starts the sandbox.
 *
 * All traffic takes one upstream proxy.  The variables may hold its password: the command hands
 * them to the supervisor in a message, and no process of a sandbox's has them as its environment.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"

/* The variables above and NO_PROXY that are set, as an object. */
json_t *upstream_environment(void);
/* Our environment without them, for a program that we start: the array is the caller's to free, the
 * strings are not. */
char **upstream_scrubbed_environment(void);
/* The one that holds, as it was written but for its password, or NULL; the caller frees.  *ret_from
 * is the variable's name, SETTING_UPSTREAM, or NULL. */
char *upstream_shown(const json_t *settings, const json_t *environment, const char **ret_from);
/* *ret: {"url","no_proxy","from"}, or JSON null when connections go out directly.  `environment` is
 * of upstream_environment(). */
int upstream_choose(const json_t *settings, const json_t *environment, json_t **ret,
                    struct sb_err **err);
