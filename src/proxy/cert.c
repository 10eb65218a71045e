/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/cert.h"

#include <openssl/bn.h>
#include <openssl/x509v3.h>

enum { SERIAL_BITS = 128 };

static bool set_serial(X509 *cert)
{
    BIGNUM *serial = BN_new();
    bool ok = serial && BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
              BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert));
    BN_free(serial);
    return ok;
}

X509 *cert_new(EVP_PKEY *key, int back_days, int days)
{
    SB_CLEANUP(x509) X509 *cert = X509_new();
    if (!cert || !X509_set_version(cert, X509_VERSION_3) || !set_serial(cert) ||
        !X509_time_adj_ex(X509_getm_notBefore(cert), -back_days, 0, NULL) ||
        !X509_time_adj_ex(X509_getm_notAfter(cert), days, 0, NULL) || !X509_set_pubkey(cert, key)) {
        return NULL;
    }
    return sb_steal(&cert);
}

static bool add_name(X509_NAME *name, const char *field, const char *text)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)text, -1,
                                      -1, 0);
}

bool cert_set_subject(X509 *cert, const char *common_name)
{
    X509_NAME *name = X509_get_subject_name(cert);
    return add_name(name, "O", "sbx") && add_name(name, "CN", common_name);
}

bool cert_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}
