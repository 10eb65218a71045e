/* SPDX-License-Identifier: Apache-2.0
 * What a running sandbox trusts: its own CA, made when it is first needed, and the authorities that
 * the user named.  Kept on the host in the sandbox's directory, and written inside by sbx-init. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "sandbox/exit.h"

struct trust {
    const char *directory; /* the sandbox's; borrowed */
    json_t *ca;            /* {"cert_pem","key_pem"}, or NULL: not needed so far */
    bool installed;        /* since the sandbox was started */
    /* Writes a file inside. */
    int (*write)(void *arg, const char *path, const void *data, size_t len, struct sb_err **err);
    void *arg;
};

/* Sets trust->ca: the kept one, or a new one of the proxy's making. */
int trust_ensure_ca(struct trust *trust, struct exit_proxy *proxy, struct sb_err **err);
/* Makes the sandbox trust what it shall, `extra` (PEM, "" for none) beside its CA: once for each
 * life of it, and when that changes. */
int trust_update(struct trust *trust, const char *extra, struct sb_err **err);
