/* SPDX-License-Identifier: Apache-2.0
 * The variables that let git and Go find their way to the credentials that the proxy adds.  Pure;
 * sees names of hosts only, and never a secret. */
#pragma once

#include <jansson.h>

/* Where git and Go fetch with a credential, by the proxy's "inject" array; new reference:
 * {"hosts": ["git.example.com:8443"], "modules": ["git.example.com/team"]}. */
json_t *git_env_places(const json_t *inject);

/* Adds the variables to a whole environment.  What it holds already is kept: GOPRIVATE grows, and
 * settings in GIT_CONFIG_COUNT get more beside them. */
void git_env_set(const json_t *places, json_t *env);
