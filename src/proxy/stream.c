/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "proxy/bounds.h"

/* ---- The socket below TLS ---- */

/* Records that leave together: TCP sees one write, and the far end wakes once.  (MSG_MORE would do
 * that, too, but TCP would take what waits for the next record for its network's slowness: BBR then
 * holds a fast connection back.)  What the socket does not take stays here. */
struct batch {
    struct sb_buf records;
    bool gathers; /* more records follow at once */
    bool waits;   /* it is the end of the handshake, and leaves with what we say first */
};

static struct batch *batch_of(const struct stream *stream)
{
    return BIO_get_data(SSL_get_wbio(stream->ssl));
}

static ssize_t send_some(int fd, const char *data, size_t len)
{
    ssize_t n;
    do {
        n = send(fd, data, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* 0 when nothing is left, or -errno. */
static int drain(struct batch *batch, int fd)
{
    struct sb_buf *records = &batch->records;
    batch->waits = false;
    if (records->len) {
        ssize_t n = send_some(fd, records->data, records->len);
        if (n < 0) {
            return (int)n;
        }
        sb_buf_consume(records, (size_t)n);
        if (records->len) { /* a short write has filled the socket */
            return -EAGAIN;
        }
        sb_buf_done(records);
    }
    return 0;
}

static int write_socket(BIO *bio, const char *data, int len)
{
    struct batch *batch = BIO_get_data(bio);
    int fd = -1;
    BIO_get_fd(bio, &fd);
    BIO_clear_retry_flags(bio);
    if (batch->gathers) {
        sb_buf_append(&batch->records, data, (size_t)len);
        return batch->records.overflow ? -1 : len;
    }
    ssize_t n = drain(batch, fd);
    n = n < 0 ? n : send_some(fd, data, (size_t)len);
    if (n == -EAGAIN) {
        BIO_set_retry_write(bio);
    }
    return n < 0 ? -1 : (int)n;
}

static int destroy_socket(BIO *bio)
{
    struct batch *batch = BIO_get_data(bio);
    if (batch) {
        sb_buf_done(&batch->records);
        free(batch);
        BIO_set_data(bio, NULL);
    }
    return BIO_meth_get_destroy(BIO_s_socket())(bio);
}

static BIO *socket_bio(int fd)
{
    static BIO_METHOD *method;
    const BIO_METHOD *plain = BIO_s_socket();
    if (!method) {
        method = BIO_meth_new(BIO_TYPE_SOCKET, "socket");
        BIO_meth_set_write(method, write_socket);
        BIO_meth_set_read(method, BIO_meth_get_read(plain));
        BIO_meth_set_ctrl(method, BIO_meth_get_ctrl(plain));
        BIO_meth_set_create(method, BIO_meth_get_create(plain));
        BIO_meth_set_destroy(method, destroy_socket);
    }
    BIO *bio = BIO_new(method);
    if (bio) {
        struct batch *batch = sb_xcalloc(1, sizeof(*batch));
        sb_buf_init(&batch->records, LIMIT_BATCH_BYTES);
        BIO_set_data(bio, batch);
        BIO_set_fd(bio, fd, BIO_NOCLOSE);
    }
    return bio;
}

/* ---- Streams ---- */

void stream_init(struct stream *stream, int fd)
{
    *stream = (struct stream){.fd = fd};
}

void stream_close(struct stream *stream)
{
    if (stream->ssl) {
        /* Or OpenSSL would think the session broken, which another connection may resume. */
        SSL_set_shutdown(stream->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(stream->ssl);
        ERR_clear_error();
    }
    if (stream->fd >= 0) {
        close(stream->fd);
    }
    stream_init(stream, -1);
}

/* Bytes that were read before TLS started sit in a memory BIO; once they are used up the socket
 * takes its place.  True when that happened and the call is worth repeating. */
static bool switch_to_socket(struct stream *stream)
{
    BIO *in = SSL_get_rbio(stream->ssl);
    if (BIO_method_type(in) != BIO_TYPE_MEM || BIO_pending(in) > 0) {
        return false;
    }
    BIO *socket = SSL_get_wbio(stream->ssl);
    BIO_up_ref(socket);
    SSL_set0_rbio(stream->ssl, socket);
    return true;
}

static ssize_t tls_result(const struct stream *stream, int result)
{
    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return -ECONNRESET;
    }
}

static ssize_t tls_read(struct stream *stream, void *data, size_t len)
{
    size_t got = 0;
    ssize_t r;
    do {
        ERR_clear_error();
        int result = SSL_read_ex(stream->ssl, data, len, &got);
        if (result == 1) {
            return (ssize_t)got;
        }
        r = tls_result(stream, result);
    } while (r == -EAGAIN && SSL_want_read(stream->ssl) && switch_to_socket(stream));
    return r;
}

ssize_t stream_read(struct stream *stream, void *data, size_t len)
{
    if (stream->ssl) {
        return tls_read(stream, data, len);
    }
    ssize_t n;
    do {
        n = recv(stream->fd, data, len, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t tls_write_record(const struct stream *stream, const char *data, size_t len)
{
    size_t put = 0;
    ERR_clear_error();
    int result = SSL_write_ex(stream->ssl, data, len, &put);
    if (result == 1) {
        return (ssize_t)put;
    }
    ssize_t r = tls_result(stream, result);
    return r == 0 ? -EPIPE : r;
}

static ssize_t tls_write_batch(const struct stream *stream, const char *data, size_t len)
{
    struct batch *batch = batch_of(stream);
    size_t sealed = 0;
    ssize_t n = 1;
    const size_t most = (size_t)LIMIT_BATCH_RECORDS * LIMIT_READ_BYTES;
    len = len < most ? len : most;
    if (len > LIMIT_READ_BYTES) {
        sb_buf_room(&batch->records, LIMIT_BATCH_BYTES - batch->records.len);
    }
    batch->gathers = true;
    while (n > 0 && sealed < len) {
        n = tls_write_record(stream, data + sealed, len - sealed);
        sealed += n > 0 ? (size_t)n : 0;
    }
    batch->gathers = false;
    int r = stream_flush(stream);
    return r < 0 && r != -EAGAIN ? r : sealed ? (ssize_t)sealed : n;
}

static ssize_t tls_write(const struct stream *stream, const char *data, size_t len)
{
    const struct batch *batch = batch_of(stream);
    if (len > LIMIT_READ_BYTES || batch->waits) {
        int r = batch->waits ? 0 : stream_flush(stream);
        return r < 0 ? r : tls_write_batch(stream, data, len);
    }
    return tls_write_record(stream, data, len);
}

int stream_flush(const struct stream *stream)
{
    return stream->ssl ? drain(batch_of(stream), stream->fd) : 0;
}

/* A ticket can wait until there is an answer. */
bool stream_holds(const struct stream *stream)
{
    const struct batch *batch = stream->ssl ? batch_of(stream) : NULL;
    return batch && batch->records.len && !(batch->waits && SSL_is_server(stream->ssl));
}

ssize_t stream_write(struct stream *stream, const void *data, size_t len)
{
    if (stream->ssl) {
        return tls_write(stream, data, len);
    }
    return send_some(stream->fd, data, len);
}

void stream_shutdown_write(struct stream *stream)
{
    if (stream->ssl && SSL_is_init_finished(stream->ssl)) {
        ERR_clear_error();
        SSL_shutdown(stream->ssl);
    }
    if (stream->fd >= 0) {
        shutdown(stream->fd, SHUT_WR);
    }
}

static SSL *ssl_for(int fd, SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);
    BIO *bio = ssl ? socket_bio(fd) : NULL;
    if (!bio) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_bio(ssl, bio, bio);
    /* One read of the socket brings a record's head and body, or several records. */
    SSL_set_read_ahead(ssl, 1);
    SSL_set_default_read_buffer_len(ssl, LIMIT_BATCH_BYTES);
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    return ssl;
}

int stream_start_server(struct stream *stream, SSL_CTX *ctx, X509 *cert, const void *seen,
                        size_t seen_len)
{
    SSL *ssl = ssl_for(stream->fd, ctx);
    BIO *mem = ssl && SSL_use_certificate(ssl, cert) == 1 ? BIO_new(BIO_s_mem()) : NULL;
    if (!mem) {
        SSL_free(ssl);
        return -ENOMEM;
    }
    BIO_set_mem_eof_return(mem, -1);
    SSL_set0_rbio(ssl, mem);
    if (seen_len && BIO_write(mem, seen, (int)seen_len) != (int)seen_len) {
        SSL_free(ssl);
        return -ENOMEM;
    }
    SSL_set_accept_state(ssl);
    stream->ssl = ssl;
    return 0;
}

int stream_start_client(struct stream *stream, SSL_CTX *ctx, const char *name, bool is_address,
                        bool offer_http2)
{
    static const unsigned char protocols[] = "\x02h2\x08http/1.1";
    size_t skip = offer_http2 ? 0 : 3;
    SSL *ssl = ssl_for(stream->fd, ctx);
    if (!ssl) {
        return -ENOMEM;
    }
    char sni[256]; /* the macro below takes no const */
    snprintf(sni, sizeof(sni), "%s", name);
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int ok = is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, name)
                        : X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
                              SSL_set_tlsext_host_name(ssl, sni) == 1;
    if (ok != 1 ||
        SSL_set_alpn_protos(ssl, protocols + skip, (unsigned)(sizeof(protocols) - 1 - skip)) != 0) {
        SSL_free(ssl);
        return -ENOMEM;
    }
    SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    SSL_set_connect_state(ssl);
    stream->ssl = ssl;
    return 0;
}

/* An empty memory BIO stands for what has not come, until switch_to_socket(). */
void stream_speak_ahead(struct stream *stream)
{
    BIO *mem = BIO_new(BIO_s_mem());
    if (mem) {
        BIO_set_mem_eof_return(mem, -1);
        SSL_set0_rbio(stream->ssl, mem);
        batch_of(stream)->gathers = true;
        SSL_do_handshake(stream->ssl); /* says that it waits for an answer */
        batch_of(stream)->gathers = false;
        ERR_clear_error();
    }
}

void stream_take_over(struct stream *stream, struct stream *ahead)
{
    stream->ssl = sb_steal(&ahead->ssl);
    BIO_set_fd(SSL_get_wbio(stream->ssl), stream->fd, BIO_NOCLOSE);
}

static int take_handshake_step(struct stream *stream)
{
    ssize_t r;
    do {
        ERR_clear_error();
        int result = SSL_do_handshake(stream->ssl);
        if (result == 1) {
            return 1;
        }
        r = tls_result(stream, result);
    } while (r == -EAGAIN && SSL_want_read(stream->ssl) && switch_to_socket(stream));
    return r == -EAGAIN ? -EAGAIN : -EPROTO;
}

int stream_handshake(struct stream *stream)
{
    struct batch *batch = batch_of(stream);
    int r = stream_flush(stream);
    if (r < 0) {
        return r == -EAGAIN ? -EAGAIN : -EPROTO;
    }
    batch->gathers = true;
    r = take_handshake_step(stream);
    batch->gathers = false;
    /* A server's end is only a ticket in TLS 1.3; before, the client waits for it. */
    bool may_wait = !SSL_is_server(stream->ssl) || SSL_version(stream->ssl) == TLS1_3_VERSION;
    batch->waits = r == 1 && may_wait && batch->records.len;
    if (!batch->waits) {
        stream_flush(stream); /* what the socket does not take is tried again */
    }
    return r;
}

const char *stream_handshake_error(const struct stream *stream)
{
    long verify = SSL_get_verify_result(stream->ssl);
    if (verify != X509_V_OK) {
        return X509_verify_cert_error_string(verify);
    }
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    return reason ? reason : "the peer closed the connection";
}

bool stream_distrusts(const struct stream *stream)
{
    long verify = stream->ssl ? SSL_get_verify_result(stream->ssl) : X509_V_OK;
    return verify == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           verify == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
           verify == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
           verify == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

void stream_resume(struct stream *stream, SSL_SESSION *session)
{
    SSL_set_session(stream->ssl, session);
}

SSL_SESSION *stream_session(const struct stream *stream)
{
    SSL_SESSION *session = stream->ssl ? SSL_get1_session(stream->ssl) : NULL;
    if (session && !SSL_SESSION_is_resumable(session)) {
        SSL_SESSION_free(session);
        return NULL;
    }
    return session;
}

bool stream_pending(const struct stream *stream)
{
    return stream->ssl && SSL_has_pending(stream->ssl);
}

bool stream_is_silent(const struct stream *stream)
{
    char byte;
    return !stream_pending(stream) &&
           recv(stream->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

bool stream_speaks_http2(const struct stream *stream)
{
    const unsigned char *name = NULL;
    unsigned int len = 0;
    if (stream->ssl) {
        SSL_get0_alpn_selected(stream->ssl, &name, &len);
    }
    return len == 2 && memcmp(name, "h2", 2) == 0;
}

uint32_t stream_events(const struct stream *stream, bool reading, bool writing)
{
    if (stream->ssl && !SSL_is_init_finished(stream->ssl)) {
        return SSL_want_write(stream->ssl) || stream_holds(stream) ? EPOLLOUT : EPOLLIN;
    }
    /* TLS may have to write before it can read on. */
    bool answers = reading && stream->ssl && SSL_want_write(stream->ssl);
    return (reading ? EPOLLIN : 0u) | (writing || answers ? EPOLLOUT : 0u);
}
