/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/describe.h"

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "proxy/bounds.h"
#include "proxy/lockdown.h"

static json_t *failure(const char *text)
{
    return json_pack("{s:b,s:s}", "ok", 0, "error", text);
}

static json_t *text_of(BIO *bio)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    json_t *text = json_stringn(data ? data : "", len > 0 ? (size_t)len : 0);
    return text ? text : json_string("?");
}

static json_t *subject_of(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0,
                       XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    json_t *text = text_of(bio);
    BIO_free(bio);
    return text;
}

static json_t *describe(X509 *cert)
{
    char until[32] = "?";
    struct tm tm;
    const ASN1_TIME *end = X509_get0_notAfter(cert);
    if (ASN1_TIME_to_tm(end, &tm) == 1) {
        strftime(until, sizeof(until), "%Y-%m-%d", &tm);
    }
    return json_pack("{s:o,s:s,s:b,s:b}", "subject", subject_of(cert), "until", until, "ca",
                     X509_check_ca(cert) > 0, "expired", X509_cmp_current_time(end) < 0);
}

/* All certificates of the file, and nothing else of it. */
static json_t *describe_all(const struct sb_buf *pem)
{
    json_t *list = json_array();
    BIO *in = BIO_new_mem_buf(pem->len ? pem->data : "", (int)pem->len);
    BIO *out = BIO_new(BIO_s_mem());
    X509 *cert;
    while ((cert = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
        json_array_append_new(list, describe(cert));
        PEM_write_bio_X509(out, cert);
        X509_free(cert);
    }
    bool all = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    json_t *reply = !all                    ? failure("a certificate in it is damaged")
                    : json_array_size(list) ? json_pack("{s:b,s:o,s:O}", "ok", 1, "pem",
                                                        text_of(out), "certificates", list)
                                            : failure("it holds no certificate in PEM form");
    json_decref(list);
    BIO_free(in);
    BIO_free(out);
    return reply;
}

int describe_certificates(void)
{
    struct sb_buf pem;
    sb_buf_init(&pem, LIMIT_TRUST_BYTES);
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (lockdown(&err) < 0) {
        sb_err_print(err);
        return 1;
    }
    bool readable = sb_read_fd(STDIN_FILENO, &pem) == 0;
    json_t *reply = !readable ? failure("it cannot be read")
                    : pem.len && memmem(pem.data, pem.len, "PRIVATE KEY-----", 16)
                        ? failure("it holds a private key, which nobody else may have")
                        : describe_all(&pem);
    json_dumpf(reply, stdout, JSON_COMPACT);
    json_decref(reply);
    sb_buf_wipe(&pem);
    return fflush(stdout) != 0;
}
