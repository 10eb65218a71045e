/* SPDX-License-Identifier: Apache-2.0
 * The address of an upstream proxy as people write it, in settings and in HTTPS_PROXY:
 *
 *   [SCHEME://][USER[:PASSWORD]@]HOST[:PORT][/]   or   direct
 *
 * SCHEME is http (also without one), https, socks5 or socks5h.  User and password may be
 * percent-encoded.  The password is a secret: no error and no text made here holds it. */
#pragma once

#include "policy/host.h"

enum proxy_scheme { PROXY_DIRECT, PROXY_HTTP, PROXY_HTTPS, PROXY_SOCKS5, PROXY_SOCKS5H };

struct proxy_url {
    enum proxy_scheme scheme; /* PROXY_DIRECT: nothing else is set */
    struct host host;
    uint16_t port;
    char *username, *password; /* decoded; NULL: none was given */
};

/* Errors have a place and an excerpt without the password. */
int proxy_url_parse(const char *text, struct proxy_url *ret, struct sb_err **err);
/* Wipes it; safe on a zeroed one. */
void proxy_url_done(struct proxy_url *url);
static inline void sb_cleanup_proxy_url(struct proxy_url *url)
{
    proxy_url_done(url);
}
/* "http://proxy.example:3128", which everybody may read; the caller frees. */
char *proxy_url_shown(const struct proxy_url *url);
/* What was written, with *** in the place of a password; the caller frees. */
char *proxy_url_masked(const char *text);
