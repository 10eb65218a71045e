/* SPDX-License-Identifier: Apache-2.0
 * What the certificates of the authority (ca.c) and of its hosts (leaf.c) have in common.
 *
 * Names and extensions come from constants and checked values; OpenSSL's text syntax, in which a
 * host could hide a second name, is never fed with outside words. */
#pragma once

#include <openssl/x509.h>
#include <stdbool.h>

#include "base/cleanup.h"

SB_DEFINE_CLEANUP(x509, X509 *, X509_free)
SB_DEFINE_CLEANUP(pkey, EVP_PKEY *, EVP_PKEY_free)

/* A certificate with a random serial, valid from `back_days` ago for `days` from now, and without
 * names, extensions and signature; NULL when OpenSSL fails. */
X509 *cert_new(EVP_PKEY *key, int back_days, int days);
/* Names its holder "O=sbx, CN=`common_name`". */
bool cert_set_subject(X509 *cert, const char *common_name);
/* `value` is a constant in OpenSSL's text syntax. */
bool cert_add_extension(X509 *cert, X509 *issuer, int nid, const char *value);
