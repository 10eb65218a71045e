/* SPDX-License-Identifier: Apache-2.0
 * TLS on both sides of an intercepted connection: leaf certificates of the sandbox's CA towards the
 * sandbox, the host's trust store towards the outside.
 *
 * No OpenSSL call happens before the first intercepted connection.  The trust store's file is
 * opened by tls_new(), before the process locks itself in, and read when it is needed. */
#pragma once

#include "proxy/stream.h"

#include "base/err.h"

struct config;
struct tls;

struct tls *tls_new(void);
/* Certificates (PEM, NULL: none) that are trusted besides the host's, from now on. */
void tls_trust(struct tls *tls, const char *pem);
/* Forgets the CA when the configuration changes it. */
void tls_forget_ca(struct tls *tls);
/* Starts TLS as `host` towards the sandbox. */
int tls_start_server(struct tls *tls, const struct config *config, const char *host,
                     struct stream *stream, const void *seen, size_t seen_len, struct sb_err **err);
/* `session`: to be resumed, or NULL. */
int tls_start_client(struct tls *tls, const char *host, bool is_address, bool offer_http2,
                     struct ssl_session_st *session, struct stream *stream, struct sb_err **err);
/* TLS with this host is likely to be started next: makes its first words ready.  Nothing leaves. */
void tls_foresee(struct tls *tls, const char *host, bool is_address);
