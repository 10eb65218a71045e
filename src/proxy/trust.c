/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/trust.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include "base/err.h"
#include "proxy/cert.h"

struct authority {
    unsigned long name; /* a hash of its subject's canonical form */
    unsigned char *der; /* NULL: the store has it */
    long len;
};

struct trust {
    struct authority *authorities;
    size_t count, room;
};

SB_DEFINE_CLEANUP(x509_name, X509_NAME *, X509_NAME_free)

struct trust *trust_new(void)
{
    return sb_xcalloc(1, sizeof(struct trust));
}

void trust_free(struct trust *trust)
{
    for (size_t i = 0; trust && i < trust->count; i++) {
        OPENSSL_free(trust->authorities[i].der);
    }
    free(trust ? trust->authorities : NULL);
    free(trust);
}

/* ---- Reading ---- */

/* Moves into the next element, or behind it. */
static bool step(const unsigned char **p, const unsigned char *end, bool into)
{
    long size = 0;
    int tag, class;
    if (*p >= end || (ASN1_get_object(p, &size, &tag, &class, end - *p) & 0x81)) {
        return false; /* 1: of indefinite length, which is no DER */
    }
    *p += into ? 0 : size;
    return true;
}

/* RFC 5280 4.1: behind version (which the first one lacks), serial number, algorithm, issuer and
 * validity.  NULL when that is not there. */
static X509_NAME *subject_of(const unsigned char *der, long len)
{
    enum { BEFORE = 4, VERSION = 0xa0 };
    const unsigned char *p = der, *end = der + len;
    bool ok = step(&p, end, true);
    ok = ok && step(&p, end, true);
    if (ok && p < end && *p == VERSION) {
        ok = step(&p, end, false);
    }
    for (int i = 0; ok && i < BEFORE; i++) {
        ok = step(&p, end, false);
    }
    return ok ? d2i_X509_NAME(NULL, &p, end - p) : NULL;
}

static bool hash_name(const X509_NAME *name, unsigned long *ret)
{
    int ok = 0;
    *ret = name ? X509_NAME_hash_ex(name, NULL, NULL, &ok) : 0;
    return ok == 1;
}

/* Takes `der` when it is a certificate. */
static bool add(struct trust *trust, unsigned char *der, long len)
{
    struct authority authority = {.der = der, .len = len};
    SB_CLEANUP(x509_name) X509_NAME *name = subject_of(der, len);
    if (!hash_name(name, &authority.name)) {
        return false;
    }
    if (trust->count == trust->room) {
        trust->room = trust->room ? trust->room * 2 : 64;
        trust->authorities =
            sb_xrealloc(trust->authorities, trust->room, sizeof(*trust->authorities));
    }
    trust->authorities[trust->count++] = authority;
    return true;
}

size_t trust_read(struct trust *trust, const char *pem, size_t len)
{
    BIO *in = BIO_new_mem_buf(pem, (int)len);
    unsigned char *der;
    long size;
    size_t n = 0;
    while (in && PEM_bytes_read_bio(&der, &size, NULL, PEM_STRING_X509, in, NULL, NULL) == 1) {
        if (add(trust, der, size)) {
            n++;
        } else {
            OPENSSL_free(der);
        }
    }
    BIO_free(in);
    ERR_clear_error();
    return n;
}

/* ---- Being asked ---- */

/* The store has it from now on, or nobody. */
static void give(X509_STORE *store, struct authority *authority)
{
    const unsigned char *p = authority->der;
    SB_CLEANUP(x509) X509 *cert = d2i_X509(NULL, &p, authority->len);
    OPENSSL_free(sb_steal(&authority->der));
    if (cert) {
        X509_STORE_add_cert(store, cert);
    }
}

/* All of that name go into the store, and it says which of them comes first. */
static int on_asked(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name,
                    X509_OBJECT *ret)
{
    struct trust *trust = X509_LOOKUP_get_method_data(lookup);
    X509_STORE *store = X509_LOOKUP_get_store(lookup);
    unsigned long hash;
    if (type != X509_LU_X509 || !hash_name(name, &hash)) {
        return 0;
    }
    for (size_t i = 0; i < trust->count; i++) {
        if (trust->authorities[i].name == hash && trust->authorities[i].der) {
            give(store, &trust->authorities[i]);
        }
    }
    X509_STORE_lock(store);
    X509_OBJECT *found =
        X509_OBJECT_retrieve_by_subject(X509_STORE_get0_objects(store), type, name);
    X509 *cert = found ? X509_OBJECT_get0_X509(found) : NULL;
    bool ok = cert && X509_OBJECT_set1_X509(ret, cert) == 1;
    X509_STORE_unlock(store);
    if (ok) {
        X509_free(cert); /* who asks takes a reference of his own */
    }
    return ok;
}

static void on_freed(X509_LOOKUP *lookup)
{
    trust_free(X509_LOOKUP_get_method_data(lookup));
}

bool trust_serve(struct trust *trust, X509_STORE *store)
{
    static X509_LOOKUP_METHOD *method;
    if (!method) {
        method = X509_LOOKUP_meth_new("the host's authorities");
        if (!method || !X509_LOOKUP_meth_set_get_by_subject(method, on_asked) ||
            !X509_LOOKUP_meth_set_free(method, on_freed)) {
            X509_LOOKUP_meth_free(sb_steal(&method));
            return false;
        }
    }
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, method);
    return lookup && X509_LOOKUP_set_method_data(lookup, trust);
}
