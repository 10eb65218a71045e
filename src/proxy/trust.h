/* SPDX-License-Identifier: Apache-2.0
 * The authorities by which servers outside are verified: read at once, decoded one by one, when a
 * chain names them.
 *
 * A host trusts some 150.  OpenSSL takes 20 ms of processor time and 700 KiB to decode them, and
 * most sandboxes meet three.  Who is trusted, and how names are compared, does not differ: what a
 * store looks for and does not hold, it asks this for, by the same canonical form of the name. */
#pragma once

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct trust;

struct trust *trust_new(void);
void trust_free(struct trust *trust);
SB_DEFINE_CLEANUP(trust, struct trust *, trust_free)
/* Takes the certificates of a text in PEM, and passes over all else in it.  How many there were. */
size_t trust_read(struct trust *trust, const char *pem, size_t len);
/* `store` asks it from now on, and owns it; false when OpenSSL fails, then nothing has changed. */
bool trust_serve(struct trust *trust, X509_STORE *store);
