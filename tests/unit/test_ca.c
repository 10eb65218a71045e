/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's CA and its leaves: verified by OpenSSL, used in real handshakes. */
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/ca.h"

static char *cert_pem, *key_pem;
static struct ca *ca;

static int setup(void **state)
{
    (void)state;
    return ca_generate("box", &cert_pem, &key_pem, NULL) || ca_new(cert_pem, key_pem, &ca, NULL);
}

static int teardown(void **state)
{
    (void)state;
    ca_free(ca);
    free(cert_pem);
    free(key_pem);
    return 0;
}

static X509 *ca_cert(void)
{
    BIO *bio = BIO_new_mem_buf(cert_pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(cert);
    return cert;
}

static void test_authority(void **state)
{
    (void)state;
    X509 *cert = ca_cert();
    char name[128];
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof(name));
    assert_string_equal(name, "sbx box CA");
    assert_int_equal(X509_get_pathlen(cert), 0);
    assert_int_equal(X509_check_ca(cert), 1);
    assert_true(ASN1_STRING_length(X509_get0_serialNumber(cert)) >= 12);
    X509_free(cert);
    SB_CLEANUP(err) struct sb_err *err = NULL;
    struct ca *other = NULL;
    assert_true(ca_new(cert_pem, cert_pem, &other, &err) < 0);
    assert_null(other);
    assert_non_null(err);
}

static void test_leaf(void **state)
{
    (void)state;
    SSL_CTX *ctx = NULL, *again = NULL, *v6 = NULL;
    X509 *authority = ca_cert();
    assert_int_equal(ca_leaf(ca, "api.example.com", &ctx, NULL), 0);
    X509 *leaf = SSL_CTX_get0_certificate(ctx);
    assert_int_equal(X509_verify(leaf, X509_get0_pubkey(authority)), 1);
    assert_int_equal(X509_check_host(leaf, "api.example.com", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(leaf, "example.com", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ca(leaf), 0);
    assert_int_equal(ca_leaf(ca, "api.example.com", &again, NULL), 0);
    assert_ptr_equal(ctx, again);
    assert_int_equal(ca_leaf(ca, "2001:db8::1", &v6, NULL), 0);
    assert_int_equal(X509_check_ip_asc(SSL_CTX_get0_certificate(v6), "2001:db8::1", 0), 1);
    for (int i = 0; i < CA_CACHE_MAX + 8; i++) { /* ours is pushed out; our reference stays good */
        SB_CLEANUP(free) char *host = sb_xasprintf("h%d.example.com", i);
        SSL_CTX *one = NULL;
        assert_int_equal(ca_leaf(ca, host, &one, NULL), 0);
        SSL_CTX_free(one);
    }
    assert_non_null(SSL_CTX_get0_certificate(ctx));
    assert_true(ca_leaf(ca, "", &again, NULL) < 0);
    SSL_CTX_free(ctx);
    SSL_CTX_free(again);
    SSL_CTX_free(v6);
    X509_free(authority);
}

/* Runs a handshake over memory; true when both sides finish. */
static bool handshake(SSL *client, SSL *server)
{
    BIO *a = NULL, *b = NULL;
    assert_int_equal(BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16), 1);
    SSL_set_bio(client, a, a);
    SSL_set_bio(server, b, b);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    int c = 0, s = 0;
    for (int i = 0; i < 10 && (c != 1 || s != 1); i++) {
        c = c == 1 ? 1 : SSL_do_handshake(client);
        s = s == 1 ? 1 : SSL_do_handshake(server);
    }
    return c == 1 && s == 1;
}

static bool connect_with(const char *host, const char *alpn, int version, const char *want)
{
    SSL_CTX *server_ctx = NULL, *client_ctx = SSL_CTX_new(TLS_client_method());
    X509 *authority = ca_cert();
    assert_int_equal(ca_leaf(ca, "api.example.com", &server_ctx, NULL), 0);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(client_ctx), authority);
    SSL_CTX_set_verify(client_ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_max_proto_version(client_ctx, version);
    SSL_CTX_set_alpn_protos(client_ctx, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx);
    assert_int_equal(SSL_set1_host(client, host), 1);
    bool ok = handshake(client, server);
    if (ok) {
        const unsigned char *chosen;
        unsigned len;
        SSL_get0_alpn_selected(client, &chosen, &len);
        assert_int_equal(len, strlen(want));
        assert_memory_equal(chosen, want, len);
    }
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
    X509_free(authority);
    return ok;
}

static void test_handshake(void **state)
{
    (void)state;
    const char *host = "api.example.com", *http1 = "\x08http/1.1";
    assert_true(connect_with(host, "\x08http/1.1\x02h2", TLS1_3_VERSION, "h2"));
    assert_true(connect_with(host, http1, TLS1_2_VERSION, "http/1.1"));
    assert_false(connect_with("evil.example.com", http1, TLS1_3_VERSION, ""));
    assert_false(connect_with(host, "\x04spdy", TLS1_3_VERSION, ""));
    assert_false(connect_with(host, http1, TLS1_1_VERSION, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_authority),
        cmocka_unit_test(test_leaf),
        cmocka_unit_test(test_handshake),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
