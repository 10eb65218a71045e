/* SPDX-License-Identifier: Apache-2.0 */

/* The public key is put into every leaf.  Of a key that OpenSSL 3 made itself that takes 190 us,
 * since it is encoded and decoded by a search through all providers, and reading a ready-made
 * certificate takes 140 for the same reason; of an EC_KEY, which is deprecated for new code, it
 * takes 5.  The signature takes 30. */
#define OPENSSL_API_COMPAT 10100

#include "proxy/leaf.h"

#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>

#include "proxy/cert.h"

static EVP_PKEY *key_new(void)
{
    SB_CLEANUP(pkey) EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    if (!key || !ec || !EC_KEY_generate_key(ec) || !EVP_PKEY_assign_EC_KEY(key, ec)) {
        EC_KEY_free(ec);
        return NULL;
    }
    return sb_steal(&key);
}

int leaf_maker_init(struct leaf_maker *maker, X509 *issuer, EVP_PKEY *issuer_key)
{
    SB_CLEANUP(pkey) EVP_PKEY *key = key_new();
    SB_CLEANUP(x509) X509 *model = key ? cert_new(key, LEAF_BACK_DAYS, LEAF_DAYS) : NULL;
    if (!model || !cert_set_subject(model, "sbx proxy") ||
        !X509_set_issuer_name(model, X509_get_subject_name(issuer)) ||
        !cert_add_extension(model, issuer, NID_basic_constraints, "critical,CA:FALSE") ||
        !cert_add_extension(model, issuer, NID_key_usage, "critical,digitalSignature") ||
        !cert_add_extension(model, issuer, NID_ext_key_usage, "serverAuth") ||
        !cert_add_extension(model, issuer, NID_subject_key_identifier, "hash") ||
        !cert_add_extension(model, issuer, NID_authority_key_identifier, "keyid")) {
        return -1;
    }
    *maker = (struct leaf_maker){
        .model = sb_steal(&model), .key = sb_steal(&key), .issuer_key = issuer_key};
    return 0;
}

void leaf_maker_done(struct leaf_maker *maker)
{
    X509_free(maker->model);
    EVP_PKEY_free(maker->key);
    *maker = (struct leaf_maker){0};
}

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

static bool copy_model(X509 *cert, const X509 *model)
{
    bool ok = X509_set_subject_name(cert, X509_get_subject_name(model)) &&
              X509_set_issuer_name(cert, X509_get_issuer_name(model));
    for (int i = 0; ok && i < X509_get_ext_count(model); i++) {
        ok = X509_add_ext(cert, X509_get_ext(model, i), -1);
    }
    return ok;
}

X509 *leaf_new(const struct leaf_maker *maker, const char *host)
{
    SB_CLEANUP(x509) X509 *cert = cert_new(maker->key, LEAF_BACK_DAYS, LEAF_DAYS);
    if (!cert || !copy_model(cert, maker->model) || !add_host(cert, host) ||
        !X509_sign(cert, maker->issuer_key, EVP_sha256())) {
        return NULL;
    }
    return sb_steal(&cert);
}
