/* SPDX-License-Identifier: Apache-2.0
 * Server names of real ClientHellos (made by OpenSSL), whole and cut into records. */
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "proxy/sni.h"

/* The first flight of a client; returns its length. */
static size_t make_hello(const char *name, uint8_t *out, size_t cap)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *wire = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), wire);
    if (name) {
        SB_CLEANUP(free) char *copy = sb_xstrdup(name); /* OpenSSL's macro casts const away */
        assert_int_equal(SSL_set_tlsext_host_name(ssl, copy), 1);
    }
    assert_int_equal(SSL_connect(ssl), -1);
    int n = BIO_read(wire, out, (int)cap);
    assert_true(n > 0);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return (size_t)n;
}

static void test_whole(void **state)
{
    (void)state;
    uint8_t data[4096];
    char host[256] = "";
    bool has_name = false;
    size_t n = make_hello("API.example.com", data, sizeof(data));
    for (size_t part = 0; part < n; part++) {
        assert_int_equal(sni_parse(data, part, host, &has_name), 0);
    }
    assert_int_equal(sni_parse(data, n, host, &has_name), 1);
    assert_true(has_name);
    assert_string_equal(host, "api.example.com");
    n = make_hello(NULL, data, sizeof(data));
    assert_int_equal(sni_parse(data, n, host, &has_name), 1);
    assert_false(has_name);
}

/* CVE class: filters that only look at the first record or segment. */
static void test_fragmented(void **state)
{
    (void)state;
    uint8_t data[4096], cut[4096 * 6];
    size_t n = make_hello("api.example.com", data, sizeof(data));
    for (size_t step = 1; step < 40; step++) {
        char host[256] = "";
        bool has_name = false;
        size_t len = 0;
        for (size_t at = 5; at < n; at += step) {
            size_t take = n - at < step ? n - at : step;
            memcpy(cut + len, (const uint8_t[]){22, 3, 1, 0, (uint8_t)take}, 5);
            memcpy(cut + len + 5, data + at, take);
            len += 5 + take;
        }
        assert_int_equal(sni_parse(cut, len - 1, host, &has_name), 0);
        assert_int_equal(sni_parse(cut, len, host, &has_name), 1);
        assert_string_equal(host, "api.example.com");
    }
}

static void test_refused(void **state)
{
    (void)state;
    uint8_t data[4096];
    char host[256];
    bool has_name;
    assert_int_equal(sni_parse((const uint8_t *)"G", 1, host, &has_name), -1);
    assert_int_equal(sni_parse((const uint8_t *)"SSH-2.0", 7, host, &has_name), -1);
    /* An empty record, one over the limit, another handshake message, a hello over 16 KiB. */
    assert_int_equal(sni_parse((const uint8_t *)"\x16\3\1\0\0", 5, host, &has_name), -1);
    assert_int_equal(sni_parse((const uint8_t *)"\x16\3\1\x40\1", 5, host, &has_name), -1);
    assert_int_equal(sni_parse((const uint8_t *)"\x16\3\1\0\1\2", 6, host, &has_name), -1);
    assert_int_equal(sni_parse((const uint8_t *)"\x16\3\1\0\4\1\0\x40\0", 9, host, &has_name), -1);
    static const char bad[] = {'\0', ' ', '%', '\\', '@', '/', '\n', '*', (char)0xd0};
    size_t n = make_hello("attacker.google.com", data, sizeof(data));
    uint8_t *name = memmem(data, n, "attacker.google", 15);
    assert_non_null(name);
    for (size_t i = 0; i < sizeof(bad); i++) {
        name[8] = (uint8_t)bad[i];
        assert_int_equal(sni_parse(data, n, host, &has_name), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_fragmented),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
