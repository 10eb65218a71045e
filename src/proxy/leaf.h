/* SPDX-License-Identifier: Apache-2.0
 * The certificates by which the proxy is a host towards the sandbox.
 *
 * All of them are one model but for serial, dates and the host's name, so that a new host costs
 * little more than its signature.  They share one key, which is made here and never leaves the
 * process. */
#pragma once

#include <openssl/x509.h>

enum {
    LEAF_BACK_DAYS = 1, /* for clocks that differ */
    LEAF_DAYS = 6,
};

struct leaf_maker {
    X509 *model;          /* with all but the host's name and the signature */
    EVP_PKEY *key;        /* of every leaf */
    EVP_PKEY *issuer_key; /* borrowed */
};

/* 0, or -1 when OpenSSL fails.  `issuer_key` must live as long. */
int leaf_maker_init(struct leaf_maker *maker, X509 *issuer, EVP_PKEY *issuer_key);
void leaf_maker_done(struct leaf_maker *maker);
/* The signed certificate for a canonical host name or address; NULL when OpenSSL fails. */
X509 *leaf_new(const struct leaf_maker *maker, const char *host);
