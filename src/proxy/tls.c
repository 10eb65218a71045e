/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tls.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "proxy/bounds.h"
#include "proxy/ca.h"
#include "proxy/cert.h"
#include "proxy/config.h"
#include "proxy/trust.h"

SB_DEFINE_CLEANUP(ssl_ctx, SSL_CTX *, SSL_CTX_free)

struct tls {
    int trust_fd; /* -1: none */
    char *extra;  /* PEM, or NULL */
    SSL_CTX *client_ctx;
    struct stream ahead; /* of no socket: by tls_foresee(), at most one */
    char ahead_host[256];
    SSL_CTX *server_ctx; /* of `ca` */
    struct ca *ca;
};

struct tls *tls_new(void)
{
    static const char *const bundles[] = {
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    };
    struct tls *tls = sb_xcalloc(1, sizeof(*tls));
    stream_init(&tls->ahead, -1);
    const char *own = getenv("SSL_CERT_FILE");
    tls->trust_fd = own && *own ? open(own, O_RDONLY | O_CLOEXEC) : -1;
    for (size_t i = 0; !(own && *own) && tls->trust_fd < 0 && i < SB_ARRAY_LEN(bundles); i++) {
        tls->trust_fd = open(bundles[i], O_RDONLY | O_CLOEXEC);
    }
    return tls;
}

void tls_forget_ca(struct tls *tls)
{
    SSL_CTX_free(sb_steal(&tls->server_ctx));
    ca_free(sb_steal(&tls->ca));
}

/* AES-128 is what browsers ask for first, and with large bodies it is what we do most of. */
static bool set_up(SSL_CTX *ctx)
{
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
           SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                         "TLS_CHACHA20_POLY1305_SHA256");
}

/* ---- Towards the outside ---- */

void tls_trust(struct tls *tls, const char *pem)
{
    if (pem && tls->extra ? strcmp(pem, tls->extra) == 0 : pem == tls->extra) {
        return;
    }
    free(tls->extra);
    tls->extra = pem ? sb_xstrdup(pem) : NULL;
    SSL_CTX_free(sb_steal(&tls->client_ctx)); /* made anew by the next connection */
    stream_close(&tls->ahead);
}

static int load_trust(SSL_CTX *ctx, const struct tls *tls, struct sb_err **err)
{
    struct sb_buf pem;
    sb_buf_init(&pem, LIMIT_TRUST_BYTES);
    if (tls->trust_fd < 0 || lseek(tls->trust_fd, 0, SEEK_SET) != 0 ||
        sb_read_fd(tls->trust_fd, &pem) < 0) {
        sb_buf_done(&pem);
        return sb_fail(err, SB_EFAIL,
                       "the host's CA bundle cannot be read (set SSL_CERT_FILE to one)");
    }
    SB_CLEANUP(trust) struct trust *trust = trust_new();
    size_t n = trust_read(trust, pem.data ? pem.data : "", pem.len);
    sb_buf_done(&pem);
    n += tls->extra ? trust_read(trust, tls->extra, strlen(tls->extra)) : 0;
    if (!n) {
        return sb_fail(err, SB_EFAIL, "the host's CA bundle holds no certificate");
    }
    if (!trust_serve(trust, SSL_CTX_get_cert_store(ctx))) {
        return sb_fail(err, SB_EFAIL, "cannot set up TLS");
    }
    sb_steal(&trust);
    return 0;
}

static int client_ctx(struct tls *tls, struct sb_err **err)
{
    if (tls->client_ctx) {
        return 0;
    }
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx || !set_up(ctx)) {
        SSL_CTX_free(ctx);
        return sb_fail(err, SB_EFAIL, "cannot set up TLS");
    }
    int r = load_trust(ctx, tls, err);
    if (r < 0) {
        SSL_CTX_free(ctx);
        return r;
    }
    tls->client_ctx = ctx;
    return 0;
}

int tls_start_client(struct tls *tls, const char *host, bool is_address, bool offer_http2,
                     SSL_SESSION *session, struct stream *stream, struct sb_err **err)
{
    int r = client_ctx(tls, err);
    if (r < 0) {
        return r;
    }
    if (tls->ahead.ssl && offer_http2 && !session && strcmp(host, tls->ahead_host) == 0) {
        stream_take_over(stream, &tls->ahead);
        return 0;
    }
    r = stream_start_client(stream, tls->client_ctx, host, is_address, offer_http2);
    if (r == 0 && session) {
        stream_resume(stream, session);
    }
    return r < 0 ? sb_fail(err, r, "cannot set up TLS towards '%s'", host) : 0;
}

void tls_foresee(struct tls *tls, const char *host, bool is_address)
{
    stream_close(&tls->ahead);
    if (client_ctx(tls, NULL) == 0 &&
        stream_start_client(&tls->ahead, tls->client_ctx, host, is_address, true) == 0) {
        stream_speak_ahead(&tls->ahead);
        snprintf(tls->ahead_host, sizeof(tls->ahead_host), "%s", host);
    }
}

/* ---- Towards the sandbox ---- */

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

/* One context for all hosts: each connection gets the certificate of its own. */
static SSL_CTX *server_ctx_new(const struct ca *ca)
{
    SB_CLEANUP(ssl_ctx) SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || !set_up(ctx) || !SSL_CTX_use_PrivateKey(ctx, ca_leaf_key(ca))) {
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    /* Tickets resume sessions without memory on our side; their key is this context's own.  They
     * carry nothing but keys that the client shares with us, whatever host it asks for with them.
     */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    return sb_steal(&ctx);
}

static int server_ctx(struct tls *tls, const struct config *config, struct sb_err **err)
{
    if (tls->server_ctx) {
        return 0;
    }
    if (!config->ca_cert) {
        return sb_fail(err, SB_EFAIL, "this sandbox has no CA");
    }
    int r = tls->ca ? 0 : ca_new(config->ca_cert, config->ca_key, &tls->ca, err);
    if (r < 0) {
        return r;
    }
    tls->server_ctx = server_ctx_new(tls->ca);
    return tls->server_ctx ? 0 : sb_fail(err, SB_EFAIL, "cannot set up TLS");
}

int tls_start_server(struct tls *tls, const struct config *config, const char *host,
                     struct stream *stream, const void *seen, size_t seen_len, struct sb_err **err)
{
    SB_CLEANUP(x509) X509 *cert = NULL;
    int r = server_ctx(tls, config, err);
    r = r < 0 ? r : ca_leaf(tls->ca, host, &cert, err);
    if (r < 0) {
        return r;
    }
    r = stream_start_server(stream, tls->server_ctx, cert, seen, seen_len);
    return r < 0 ? sb_fail(err, r, "cannot set up TLS as '%s'", host) : 0;
}
