/* SPDX-License-Identifier: Apache-2.0
 * The certificate authority of one sandbox, and the leaf certificates that terminate TLS.
 *
 * Every key comes from OpenSSL's CSPRNG. The CA key never leaves the host side; the leaf key never
 * leaves this process. A CA signs leaves only (pathlen 0). */
#pragma once

#include <openssl/types.h>

#include "base/err.h"

enum { CA_CACHE_MAX = 256 }; /* leaves kept, least recently used goes first */

struct ca;

/* A new P-256 CA named "sbx NAME CA".  The caller frees both; wipe the key when done. */
int ca_generate(const char *name, char **ret_cert_pem, char **ret_key_pem, struct sb_err **err);

int ca_new(const char *cert_pem, const char *key_pem, struct ca **ret, struct sb_err **err);
void ca_free(struct ca *ca);
SB_DEFINE_CLEANUP(ca, struct ca *, ca_free)

/* The certificate of `host`, a canonical name or address (see policy/host.h).  The caller owns one
 * reference: X509_free(). */
int ca_leaf(struct ca *ca, const char *host, X509 **ret, struct sb_err **err);
/* The key of every leaf; borrowed. */
EVP_PKEY *ca_leaf_key(const struct ca *ca);
