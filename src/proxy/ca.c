/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/ca.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "proxy/cert.h"
#include "proxy/leaf.h"

enum {
    DAY = 24 * 60 * 60,
    /* From how many days back, for clocks that differ.  The CA outlives a host's clock that was set
     * back after it was made. */
    CA_BACK_DAYS = 365,
    CA_DAYS = 3650,
    LEAF_FRESH_DAYS = 2, /* a cached leaf is handed out for so long */
    HOST_TEXT_MAX = 253,
};

SB_DEFINE_CLEANUP(bio, BIO *, BIO_free_all)

struct ca_entry {
    uint32_t hash; /* of `host`: those of others need not be looked at */
    char *host;    /* NULL: free */
    X509 *cert;
    time_t made;
    uint64_t used; /* of the clock that ca_leaf() advances */
};

struct ca {
    X509 *cert;
    EVP_PKEY *key;
    struct leaf_maker leaves;
    uint64_t clock;
    struct ca_entry cache[CA_CACHE_MAX];
};

/* An error with OpenSSL's reason; its queue is left empty. */
static int ca_fail(struct sb_err **err, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return sb_fail(err, SB_EFAIL, "%s: %s", what, reason ? reason : "OpenSSL gives no reason");
}

/* ---- Making one ---- */

static X509 *ca_cert_new(const char *name, EVP_PKEY *key)
{
    /* RFC 5280 allows 64 characters in a common name. */
    SB_CLEANUP(free) char *common_name = sb_xasprintf("sbx %.57s CA", name);
    SB_CLEANUP(x509) X509 *cert = cert_new(key, CA_BACK_DAYS, CA_DAYS);
    if (!cert || !cert_set_subject(cert, common_name) ||
        !X509_set_issuer_name(cert, X509_get_subject_name(cert)) ||
        !cert_add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !cert_add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !cert_add_extension(cert, cert, NID_subject_key_identifier, "hash") ||
        !X509_sign(cert, key, EVP_sha256())) {
        return NULL;
    }
    return sb_steal(&cert);
}

/* The key as PEM; OpenSSL's copy is wiped. */
static char *key_to_pem(EVP_PKEY *key)
{
    SB_CLEANUP(bio) BIO *bio = BIO_new(BIO_s_secmem());
    char *text = NULL;
    if (!bio || !PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)) {
        return NULL;
    }
    long n = BIO_get_mem_data(bio, &text);
    return n > 0 ? sb_xstrndup(text, (size_t)n) : NULL;
}

static char *cert_to_pem(X509 *cert)
{
    SB_CLEANUP(bio) BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    if (!bio || !PEM_write_bio_X509(bio, cert)) {
        return NULL;
    }
    long n = BIO_get_mem_data(bio, &text);
    return n > 0 ? sb_xstrndup(text, (size_t)n) : NULL;
}

int ca_generate(const char *name, char **ret_cert_pem, char **ret_key_pem, struct sb_err **err)
{
    SB_CLEANUP(pkey) EVP_PKEY *key = EVP_EC_gen("P-256");
    SB_CLEANUP(x509) X509 *cert = key ? ca_cert_new(name, key) : NULL;
    SB_CLEANUP(free) char *cert_pem = cert ? cert_to_pem(cert) : NULL;
    char *key_pem = cert_pem ? key_to_pem(key) : NULL;
    if (!key_pem) {
        return ca_fail(err, "cannot make a certificate authority");
    }
    *ret_cert_pem = sb_steal(&cert_pem);
    *ret_key_pem = key_pem;
    return 0;
}

/* ---- The authority ---- */

/* An encrypted key must fail and not ask at the terminal. */
static int no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

int ca_new(const char *cert_pem, const char *key_pem, struct ca **ret, struct sb_err **err)
{
    SB_CLEANUP(ca) struct ca *ca = sb_xcalloc(1, sizeof(*ca));
    SB_CLEANUP(bio) BIO *cert_bio = BIO_new_mem_buf(cert_pem, -1);
    SB_CLEANUP(bio) BIO *key_bio = BIO_new_mem_buf(key_pem, -1);
    ca->cert = cert_bio ? PEM_read_bio_X509(cert_bio, NULL, no_password, NULL) : NULL;
    if (!ca->cert) {
        return ca_fail(err, "cannot read the sandbox's CA certificate");
    }
    ca->key = key_bio ? PEM_read_bio_PrivateKey(key_bio, NULL, no_password, NULL) : NULL;
    if (!ca->key) {
        return ca_fail(err, "cannot read the key of the sandbox's CA");
    }
    if (!X509_check_private_key(ca->cert, ca->key)) {
        return ca_fail(err, "the sandbox's CA certificate and key do not belong together");
    }
    if (leaf_maker_init(&ca->leaves, ca->cert, ca->key) < 0) {
        return ca_fail(err, "cannot make a key for TLS");
    }
    *ret = sb_steal(&ca);
    return 0;
}

static void entry_done(struct ca_entry *entry)
{
    free(entry->host);
    X509_free(entry->cert);
    *entry = (struct ca_entry){0};
}

void ca_free(struct ca *ca)
{
    if (!ca) {
        return;
    }
    for (size_t i = 0; i < CA_CACHE_MAX; i++) {
        entry_done(&ca->cache[i]);
    }
    leaf_maker_done(&ca->leaves);
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
    free(ca);
}

/* ---- Leaves ---- */

static bool is_of(const struct ca_entry *entry, const char *host, uint32_t hash)
{
    return entry->hash == hash && entry->host && strcmp(entry->host, host) == 0;
}

/* The entry of `host`, else a free one, else the least recently used one. */
static struct ca_entry *cache_slot(struct ca *ca, const char *host, uint32_t hash)
{
    struct ca_entry *oldest = &ca->cache[0];
    for (size_t i = 0; i < CA_CACHE_MAX; i++) {
        struct ca_entry *entry = &ca->cache[i];
        if (is_of(entry, host, hash)) {
            return entry;
        }
        if (entry->used < oldest->used) {
            oldest = entry;
        }
    }
    return oldest;
}

int ca_leaf(struct ca *ca, const char *host, X509 **ret, struct sb_err **err)
{
    size_t n = strlen(host);
    if (!n || n > HOST_TEXT_MAX) {
        return sb_fail(err, SB_EFAIL, "no certificate for a host name of %zu characters", n);
    }
    uint32_t hash = sb_hash(host, n);
    struct ca_entry *entry = cache_slot(ca, host, hash);
    time_t now = time(NULL);
    bool fresh = is_of(entry, host, hash) && now >= entry->made &&
                 now - entry->made < (time_t)LEAF_FRESH_DAYS * DAY;
    if (!fresh) {
        X509 *cert = leaf_new(&ca->leaves, host);
        if (!cert) {
            return ca_fail(err, "cannot make a certificate for TLS");
        }
        entry_done(entry);
        *entry =
            (struct ca_entry){.hash = hash, .host = sb_xstrdup(host), .cert = cert, .made = now};
    }
    entry->used = ++ca->clock;
    X509_up_ref(entry->cert);
    *ret = entry->cert;
    return 0;
}

EVP_PKEY *ca_leaf_key(const struct ca *ca)
{
    return ca->leaves.key;
}
