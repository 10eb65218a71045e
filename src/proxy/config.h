/* SPDX-License-Identifier: Apache-2.0
 * The proxy's configuration as it came from the supervisor (docs/architecture.md, "Proxy
 * configuration"): immutable, replaced whole. It holds secrets: its text is wiped after reading. */
#pragma once

#include <jansson.h>

#include "policy/policy.h"
#include "proxy/ca.h"
#include "proxy/inject.h"
#include "proxy/via.h"

struct config {
    char *sandbox;
    struct policy *policy;
    struct inject_set *inject;
    json_t *hosts;          /* name -> address text, as the host knows it */
    json_t *pins;           /* name -> "address[:port]", as the user named it */
    struct via *via;        /* the upstream proxy, NULL: none */
    char *extra_ca;         /* PEM: trusted besides the system's, NULL: none */
    char *ca_cert, *ca_key; /* NULL without one; ca_key is wiped */
};

/* Reads the memfd (borrowed). */
int config_read(int fd, struct config **ret, struct sb_err **err);
void config_free(struct config *config);
SB_DEFINE_CLEANUP(config, struct config *, config_free)
