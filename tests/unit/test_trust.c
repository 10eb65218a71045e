/* SPDX-License-Identifier: Apache-2.0
 * Authorities that are decoded when they are asked for: the same are trusted as if all were. */
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "proxy/cert.h"
#include "proxy/trust.h"

struct authority {
    X509 *cert;
    EVP_PKEY *key;
    char *pem;
    bool nameless; /* what it signs does not say by which key */
};

static char *pem_of(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    long n = BIO_get_mem_data(bio, &text);
    char *copy = sb_xstrndup(text, (size_t)n);
    BIO_free(bio);
    return copy;
}

/* Without `ca` it is one itself. */
static X509 *certificate(EVP_PKEY *key, const char *name, const char *issuer,
                         const struct authority *ca)
{
    X509 *cert = cert_new(key, 1, 9), *named = cert_new(key, 1, 9);
    assert_true(cert_set_subject(cert, name) && cert_set_subject(named, issuer));
    assert_int_equal(X509_set_issuer_name(cert, X509_get_subject_name(named)), 1);
    if (ca && !ca->nameless) {
        assert_true(
            cert_add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid:always"));
    } else if (!ca) {
        assert_true(cert_add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE"));
        assert_true(cert_add_extension(cert, cert, NID_subject_key_identifier, "hash"));
    }
    assert_true(X509_sign(cert, ca ? ca->key : key, EVP_sha256()) > 0);
    X509_free(named);
    return cert;
}

static struct authority authority(const char *name)
{
    struct authority made = {.key = EVP_EC_gen("P-256")};
    made.cert = certificate(made.key, name, name, NULL);
    made.pem = pem_of(made.cert);
    return made;
}

static void done(struct authority *a)
{
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
    free(a->pem);
}

static X509_STORE *store_of(const char *pem, size_t expected)
{
    X509_STORE *store = X509_STORE_new();
    struct trust *trust = trust_new();
    assert_int_equal(trust_read(trust, pem, strlen(pem)), expected);
    assert_true(trust_serve(trust, store));
    return store;
}

/* Of a server whose certificate `signer` has made and which names `issuer` for it. */
static bool verifies(X509_STORE *store, const struct authority *signer, const char *issuer)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *leaf = certificate(key, "a server", issuer, signer);
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    assert_int_equal(X509_STORE_CTX_init(ctx, store, leaf, NULL), 1);
    bool ok = X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    X509_free(leaf);
    EVP_PKEY_free(key);
    return ok;
}

static void test_found_among_others(void **state)
{
    (void)state;
    struct authority all[] = {authority("First"), authority("Second"), authority("Third")};
    struct authority unknown = authority("Unknown"), impostor = authority("Second");
    SB_CLEANUP(free)
    char *pem = sb_xasprintf("text\n%s\n%s%s", all[0].pem, all[1].pem, all[2].pem);
    X509_STORE *store = store_of(pem, 3);
    for (int round = 0; round < 2; round++) { /* the second finds them in the store */
        assert_true(verifies(store, &all[1], "Second"));
        assert_true(verifies(store, &all[0], "First"));
        assert_false(verifies(store, &unknown, "Unknown"));
        assert_false(verifies(store, &impostor, "Second"));
        assert_false(verifies(store, &all[0], "Third"));
    }
    assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(store)), 3); /* "Third" was asked */
    X509_STORE_free(store);
    for (size_t i = 0; i < SB_ARRAY_LEN(all); i++) {
        done(&all[i]);
    }
    done(&unknown);
    done(&impostor);
}

static void test_only_what_is_asked_for_is_decoded(void **state)
{
    (void)state;
    struct authority a = authority("A"), b = authority("B");
    SB_CLEANUP(free) char *pem = sb_xasprintf("%s%s", a.pem, b.pem);
    X509_STORE *store = store_of(pem, 2);
    assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(store)), 0);
    assert_true(verifies(store, &b, "B"));
    assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(store)), 1);
    X509_STORE_free(store);
    done(&a);
    done(&b);
}

static void test_two_of_one_name(void **state)
{
    (void)state;
    struct authority old = authority("Twice"), young = authority("Twice");
    SB_CLEANUP(free) char *pem = sb_xasprintf("%s%s%s", old.pem, young.pem, old.pem);
    X509_STORE *store = store_of(pem, 3);
    assert_true(verifies(store, &old, "Twice"));
    assert_true(verifies(store, &young, "Twice"));
    assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(store)), 2);
    X509_STORE_free(store);
    /* Where only the name counts, it is always the same one. */
    old.nameless = young.nameless = true;
    store = store_of(pem, 3);
    assert_true(verifies(store, &old, "Twice") != verifies(store, &young, "Twice"));
    X509_STORE_free(store);
    done(&old);
    done(&young);
}

/* RFC 5280 7.1: case and blanks do not count. */
static void test_names_are_compared_as_names(void **state)
{
    (void)state;
    struct authority a = authority("An  Authority");
    X509_STORE *store = store_of(a.pem, 1);
    assert_true(verifies(store, &a, "AN authority "));
    assert_false(verifies(store, &a, "Anauthority"));
    X509_STORE_free(store);
    done(&a);
}

static void test_what_is_no_certificate_is_passed_over(void **state)
{
    (void)state;
    struct authority a = authority("A"), b = authority("B");
    static const char *const others[] = {
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIBCgKCAQEA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIAwgDCABgA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n",
    };
    for (size_t i = 0; i < SB_ARRAY_LEN(others); i++) {
        SB_CLEANUP(free) char *pem = sb_xasprintf("%s%s%s", a.pem, others[i], b.pem);
        X509_STORE *store = store_of(pem, 2);
        assert_true(verifies(store, &a, "A"));
        assert_true(verifies(store, &b, "B"));
        X509_STORE_free(store);
    }
    /* Cut off anywhere it is no certificate, or one that fails when it is asked for. */
    unsigned char *der = NULL;
    int n = i2d_X509(a.cert, &der);
    for (int size = 1; size < n; size++) {
        BIO *bio = BIO_new(BIO_s_mem());
        assert_true(PEM_write_bio(bio, PEM_STRING_X509, "", der, size) > 0);
        char *text;
        size_t len = (size_t)BIO_get_mem_data(bio, &text);
        struct trust *trust = trust_new();
        assert_int_equal(trust_read(trust, text, len), 0);
        trust_free(trust);
        BIO_free(bio);
    }
    OPENSSL_free(der);
    done(&a);
    done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_among_others),
        cmocka_unit_test(test_only_what_is_asked_for_is_decoded),
        cmocka_unit_test(test_two_of_one_name),
        cmocka_unit_test(test_names_are_compared_as_names),
        cmocka_unit_test(test_what_is_no_certificate_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
