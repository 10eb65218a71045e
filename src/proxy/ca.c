/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/ca.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

enum {
    DAY = 24 * 60 * 60,
    /* From how many days back, for clocks that differ.  The CA outlives a host's clock that was set
     * back after it was made. */
    CA_BACK_DAYS = 365,
    CA_DAYS = 3650,
    LEAF_BACK_DAYS = 1,
    LEAF_DAYS = 6,
    LEAF_FRESH_DAYS = 2, /* a cached leaf is handed out for so long */
    HOST_TEXT_MAX = 253,
};

SB_DEFINE_CLEANUP(x509, X509 *, X509_free)
SB_DEFINE_CLEANUP(pkey, EVP_PKEY *, EVP_PKEY_free)
SB_DEFINE_CLEANUP(bio, BIO *, BIO_free_all)
SB_DEFINE_CLEANUP(ssl_ctx, SSL_CTX *, SSL_CTX_free)

struct ca_entry {
    char *host; /* NULL: free */
    SSL_CTX *ctx;
    time_t made;
    uint64_t used; /* of the clock that ca_leaf() advances */
};

struct ca {
    X509 *cert;
    EVP_PKEY *key;
    EVP_PKEY *leaf_key; /* one for all leaves of this process */
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

/* ---- Certificates ---- */

static bool set_serial(X509 *cert)
{
    BIGNUM *serial = BN_new();
    bool ok = serial && BN_rand(serial, 128, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
              BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert));
    BN_free(serial);
    return ok;
}

static bool add_name(X509_NAME *name, const char *field, const char *text)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)text, -1,
                                      -1, 0);
}

/* `value` is a constant of this file: the text syntax is never fed with outside words. */
static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

/* A certificate with everything but its issuer, extensions and signature. */
static X509 *cert_new(const char *common_name, EVP_PKEY *key, long back_days, long days)
{
    SB_CLEANUP(x509) X509 *cert = X509_new();
    if (!cert || !X509_set_version(cert, X509_VERSION_3) || !set_serial(cert) ||
        !X509_gmtime_adj(X509_getm_notBefore(cert), -back_days * DAY) ||
        !X509_gmtime_adj(X509_getm_notAfter(cert), days * DAY) || !X509_set_pubkey(cert, key) ||
        !add_name(X509_get_subject_name(cert), "O", "sbx") ||
        !add_name(X509_get_subject_name(cert), "CN", common_name)) {
        return NULL;
    }
    return sb_steal(&cert);
}

static X509 *ca_cert_new(const char *name, EVP_PKEY *key)
{
    /* RFC 5280 allows 64 characters in a common name. */
    SB_CLEANUP(free) char *common_name = sb_xasprintf("sbx %.57s CA", name);
    SB_CLEANUP(x509) X509 *cert = cert_new(common_name, key, CA_BACK_DAYS, CA_DAYS);
    if (!cert || !X509_set_issuer_name(cert, X509_get_subject_name(cert)) ||
        !add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(cert, cert, NID_subject_key_identifier, "hash") ||
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
    ca->leaf_key = EVP_EC_gen("P-256");
    if (!ca->leaf_key) {
        return ca_fail(err, "cannot make a key for TLS");
    }
    *ret = sb_steal(&ca);
    return 0;
}

static void entry_done(struct ca_entry *entry)
{
    free(entry->host);
    SSL_CTX_free(entry->ctx);
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
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
    EVP_PKEY_free(ca->leaf_key);
    free(ca);
}

/* ---- Leaves ---- */

/* Built from values, not from OpenSSL's text syntax, in which a host could hide a second name. */
static bool add_host(X509 *cert, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    int size = inet_pton(AF_INET, host, address) == 1    ? 4
               : inet_pton(AF_INET6, host, address) == 1 ? 16
                                                         : 0;
    ASN1_STRING *value = ASN1_STRING_type_new(size ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    GENERAL_NAME *name = GENERAL_NAME_new();
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    bool ok = value && name && names &&
              ASN1_STRING_set(value, size ? (const void *)address : (const void *)host,
                              size ? size : (int)strlen(host));
    if (ok) {
        GENERAL_NAME_set0_value(name, size ? GEN_IPADD : GEN_DNS, value);
        value = NULL;
        ok = sk_GENERAL_NAME_push(names, name) > 0;
        if (ok) {
            name = NULL;
            ok = X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) == 1;
        }
    }
    ASN1_STRING_free(value);
    GENERAL_NAME_free(name);
    GENERAL_NAMES_free(names);
    return ok;
}

static X509 *leaf_new(struct ca *ca, const char *host)
{
    SB_CLEANUP(x509) X509 *cert = cert_new("sbx proxy", ca->leaf_key, LEAF_BACK_DAYS, LEAF_DAYS);
    if (!cert || !X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) ||
        !add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(cert, ca->cert, NID_ext_key_usage, "serverAuth") ||
        !add_extension(cert, ca->cert, NID_subject_key_identifier, "hash") ||
        !add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid") ||
        !add_host(cert, host) || !X509_sign(cert, ca->key, EVP_sha256())) {
        return NULL;
    }
    return sb_steal(&cert);
}

/* One of our two, or nothing: a client that speaks neither must see a failure of the handshake. */
static int select_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
                       const unsigned char *offered, unsigned int offered_len, void *arg)
{
    (void)ssl, (void)arg;
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, ret_len, ours, sizeof(ours) - 1, offered, offered_len) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *ret = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *leaf_ctx_new(struct ca *ca, const char *host)
{
    SB_CLEANUP(x509) X509 *cert = leaf_new(ca, host);
    SB_CLEANUP(ssl_ctx) SSL_CTX *ctx = cert ? SSL_CTX_new(TLS_server_method()) : NULL;
    if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ||
        !SSL_CTX_use_certificate(ctx, cert) || !SSL_CTX_use_PrivateKey(ctx, ca->leaf_key)) {
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Tickets resume sessions without memory on our side; their key is this context's own. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    return sb_steal(&ctx);
}

/* The entry of `host`, else a free one, else the least recently used one. */
static struct ca_entry *cache_slot(struct ca *ca, const char *host)
{
    struct ca_entry *oldest = &ca->cache[0];
    for (size_t i = 0; i < CA_CACHE_MAX; i++) {
        struct ca_entry *entry = &ca->cache[i];
        if (entry->host && strcmp(entry->host, host) == 0) {
            return entry;
        }
        if (entry->used < oldest->used) {
            oldest = entry;
        }
    }
    return oldest;
}

int ca_leaf(struct ca *ca, const char *host, SSL_CTX **ret, struct sb_err **err)
{
    size_t n = strlen(host);
    if (!n || n > HOST_TEXT_MAX) {
        return sb_fail(err, SB_EFAIL, "no certificate for a host name of %zu characters", n);
    }
    struct ca_entry *entry = cache_slot(ca, host);
    time_t now = time(NULL);
    bool fresh = entry->host && strcmp(entry->host, host) == 0 && now >= entry->made &&
                 now - entry->made < (time_t)LEAF_FRESH_DAYS * DAY;
    if (!fresh) {
        SSL_CTX *ctx = leaf_ctx_new(ca, host);
        if (!ctx) {
            return ca_fail(err, "cannot make a certificate for TLS");
        }
        entry_done(entry);
        *entry = (struct ca_entry){.host = sb_xstrdup(host), .ctx = ctx, .made = now};
    }
    entry->used = ++ca->clock;
    SSL_CTX_up_ref(entry->ctx);
    *ret = entry->ctx;
    return 0;
}
