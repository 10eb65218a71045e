/* SPDX-License-Identifier: Apache-2.0
 * The environment that every process in a sandbox starts with. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

struct environment_sources {
    const json_t *config;     /* sandbox.json: the plan's variables, then the user's */
    const json_t *sentinels;  /* NAME -> placeholder of a secret */
    const json_t *git_places; /* git_env.h */
    const json_t *command;    /* variables of this one command */
    const json_t *ca;         /* {"cert_pem"} of the sandbox's own CA, or NULL: it needs none */
    const char *proxy_host;   /* the proxy's address as the sandbox sees it */
    bool as_agent; /* the settings that send `npm i -g` and `pip install` below agent's home */
};
/* What sbx sets, then each of the sources, the later ones winning; new reference. */
json_t *environment_compose(const struct environment_sources *sources);
/* The one CA bundle inside, which every usual variable names. */
#define ENVIRONMENT_CA_BUNDLE "/etc/ssl/certs/ca-certificates.crt"
