/* SPDX-License-Identifier: Apache-2.0
 * The sandbox's CA and its leaves: verified by OpenSSL, used in real handshakes. */
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/ca.h"
#include "proxy/config.h"
#include "proxy/tls.h"

static char *cert_pem, *key_pem;
static struct ca *ca;
static struct config config;
static struct tls *tls;

static int setup(void **state)
{
    (void)state;
    int r = ca_generate("box", &cert_pem, &key_pem, NULL) || ca_new(cert_pem, key_pem, &ca, NULL);
    config.ca_cert = cert_pem;
    config.ca_key = key_pem;
    tls = tls_new();
    return r;
}

static int teardown(void **state)
{
    (void)state;
    tls_forget_ca(tls);
    free(tls);
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

static X509 *leaf_for(const char *host)
{
    X509 *leaf = NULL;
    assert_int_equal(ca_leaf(ca, host, &leaf, NULL), 0);
    return leaf;
}

/* As the client gets it: what we built in memory and what is on the wire are the same. */
static X509 *sent(X509 *leaf)
{
    unsigned char *der = NULL, *again = NULL;
    int n = i2d_X509(leaf, &der);
    assert_true(n > 0);
    const unsigned char *p = der;
    X509 *read = d2i_X509(NULL, &p, n);
    assert_non_null(read);
    assert_ptr_equal(p, der + n);
    assert_int_equal(i2d_X509(read, &again), n);
    assert_memory_equal(der, again, (size_t)n);
    OPENSSL_free(der);
    OPENSSL_free(again);
    return read;
}

static bool verifies(X509 *leaf, const char *host, bool is_address)
{
    X509 *authority = ca_cert();
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, authority);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, leaf, NULL), 1);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    assert_int_equal(is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, host)
                                : X509_VERIFY_PARAM_set1_host(param, host, 0),
                     1);
    bool ok = X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(authority);
    return ok;
}

static void assert_p256(EVP_PKEY *key)
{
    char group[32] = "";
    assert_int_equal(EVP_PKEY_get_group_name(key, group, sizeof(group), NULL), 1);
    assert_string_equal(group, SN_X9_62_prime256v1);
}

static void test_leaf(void **state)
{
    (void)state;
    char longest[254];
    for (size_t i = 0; i < sizeof(longest) - 1; i++) {
        longest[i] = i % 64 == 63 ? '.' : 'a';
    }
    longest[sizeof(longest) - 1] = '\0';
    const struct {
        const char *host;
        bool is_address;
    } hosts[] = {{"api.example.com", false}, {"a", false},
                 {longest, false},           {"192.0.2.1", true},
                 {"2001:db8::1", true},      {"::1", true},
                 {"1.2.3.example", false},   {"xn--bcher-kva.example", false}};
    for (size_t i = 0; i < SB_ARRAY_LEN(hosts); i++) {
        X509 *made = leaf_for(hosts[i].host), *leaf = sent(made);
        assert_true(verifies(leaf, hosts[i].host, hosts[i].is_address));
        assert_false(
            verifies(leaf, hosts[i].is_address ? "192.0.2.2" : "example.com", hosts[i].is_address));
        assert_int_equal(X509_check_ca(leaf), 0);
        assert_int_equal(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
        assert_int_equal(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER);
        assert_int_equal(X509_get_ext_count(leaf), 6);
        assert_true(X509_cmp_current_time(X509_get0_notBefore(leaf)) < 0);
        assert_true(X509_cmp_current_time(X509_get0_notAfter(leaf)) > 0);
        assert_true(X509_check_private_key(leaf, ca_leaf_key(ca)));
        assert_p256(X509_get0_pubkey(leaf));
        X509_free(leaf);
        X509_free(made);
    }
    X509 *none = NULL;
    assert_true(ca_leaf(ca, "", &none, NULL) < 0);
    SB_CLEANUP(free) char *too_long = sb_xasprintf("%sa", longest);
    assert_true(ca_leaf(ca, too_long, &none, NULL) < 0);
    assert_null(none);
}

static void test_leaves(void **state)
{
    (void)state;
    X509 *leaf = leaf_for("api.example.com"), *again = leaf_for("api.example.com");
    X509 *other = leaf_for("www.example.com");
    assert_ptr_equal(leaf, again);
    assert_int_not_equal(
        ASN1_INTEGER_cmp(X509_get0_serialNumber(leaf), X509_get0_serialNumber(other)), 0);
    for (int i = 0; i < CA_CACHE_MAX + 8; i++) { /* ours is pushed out; our reference stays good */
        SB_CLEANUP(free) char *host = sb_xasprintf("h%d.example.com", i);
        X509_free(leaf_for(host));
    }
    X509_free(again);
    again = leaf_for("api.example.com");
    assert_ptr_not_equal(leaf, again);
    assert_true(verifies(leaf, "api.example.com", false));
    X509_free(leaf);
    X509_free(again);
    X509_free(other);
}

/* Runs a handshake over sockets; true when both sides finish. */
static bool handshake(SSL *client, struct stream *server)
{
    int c = 0, s = 0;
    SSL_set_connect_state(client);
    for (int i = 0; i < 10 && (c != 1 || s != 1); i++) {
        c = c == 1 ? 1 : SSL_do_handshake(client);
        s = s == 1 ? 1 : stream_handshake(server);
    }
    return c == 1 && s == 1;
}

static bool connect_with(const char *host, const char *alpn, int version, const char *want)
{
    int pair[2];
    struct stream server;
    SSL_CTX *client_ctx = SSL_CTX_new(TLS_client_method());
    X509 *authority = ca_cert();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    stream_init(&server, pair[1]);
    assert_int_equal(tls_start_server(tls, &config, "api.example.com", &server, NULL, 0, NULL), 0);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(client_ctx), authority);
    SSL_CTX_set_verify(client_ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_max_proto_version(client_ctx, version);
    SSL_CTX_set_alpn_protos(client_ctx, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    SSL *client = SSL_new(client_ctx);
    SSL_set_fd(client, pair[0]);
    assert_int_equal(SSL_set1_host(client, host), 1);
    bool ok = handshake(client, &server);
    if (ok) {
        const unsigned char *chosen;
        unsigned len;
        SSL_get0_alpn_selected(client, &chosen, &len);
        assert_int_equal(len, strlen(want));
        assert_memory_equal(chosen, want, len);
    }
    SSL_free(client);
    close(pair[0]);
    stream_close(&server);
    SSL_CTX_free(client_ctx);
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
        cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_handshake),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
