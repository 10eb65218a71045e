/* SPDX-License-Identifier: Apache-2.0
 * One end of a connection: a non-blocking socket, with TLS on top of it or not.
 *
 * Owns the descriptor and the TLS state.  Never waits: -EAGAIN says that the caller should watch
 * for stream_events(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ssl_st;
struct ssl_ctx_st;
struct ssl_session_st;
struct x509_st;

struct stream {
    int fd; /* -1: none */
    struct ssl_st *ssl;
};

void stream_init(struct stream *stream, int fd);
void stream_close(struct stream *stream);
/* Bytes read, 0 at the end, or -errno. A TLS stream cut without close_notify is -ECONNRESET. */
ssize_t stream_read(struct stream *stream, void *data, size_t len);
/* Bytes taken, or -errno.  Of what TLS takes the socket may have to take a rest later:
 * stream_holds() says so, and stream_flush() tries again. */
ssize_t stream_write(struct stream *stream, const void *data, size_t len);
bool stream_holds(const struct stream *stream);
/* 0 when nothing is held, or -errno. */
int stream_flush(const struct stream *stream);
/* Tells the far end that nothing more will come. */
void stream_shutdown_write(struct stream *stream);
/* Starts TLS as the server with this certificate, whose key is the context's; `seen` are bytes that
 * were already read from the socket.  0 or -ENOMEM. */
int stream_start_server(struct stream *stream, struct ssl_ctx_st *ctx, struct x509_st *cert,
                        const void *seen, size_t seen_len);
/* Starts TLS as the client towards `name` (a canonical host name or address), which the peer's
 * certificate must carry. */
int stream_start_client(struct stream *stream, struct ssl_ctx_st *ctx, const char *name,
                        bool is_address, bool offer_http2);
/* Of a stream without a socket, which has been started as a client: says its first words, which are
 * held.  Then another that has the socket takes them over, in place of stream_start_client(). */
void stream_speak_ahead(struct stream *stream);
void stream_take_over(struct stream *stream, struct stream *ahead);
/* Before the handshake: tries to resume this session. */
void stream_resume(struct stream *stream, struct ssl_session_st *session);
/* A session that can be resumed, or NULL; the caller frees. */
struct ssl_session_st *stream_session(const struct stream *stream);
/* 1 when done, -EAGAIN, or -EPROTO; see stream_handshake_error().  When it is done as a client, its
 * last words may be held for the first write, or for stream_flush(). */
int stream_handshake(struct stream *stream);
/* Why the last handshake failed, as text that holds no peer data beyond OpenSSL's own reasons. */
const char *stream_handshake_error(const struct stream *stream);
/* ... and was it that the peer's certificate is not trusted? */
bool stream_distrusts(const struct stream *stream);
/* Has TLS taken bytes from the socket that were not read yet?  The loop knows nothing of them. */
bool stream_pending(const struct stream *stream);
/* Has nothing come that was not read yet, not even the end? */
bool stream_is_silent(const struct stream *stream);
/* Was "h2" agreed on?  After the handshake. */
bool stream_speaks_http2(const struct stream *stream);
/* EPOLLIN/EPOLLOUT bits to wait for when a read (or write) returned -EAGAIN. */
uint32_t stream_events(const struct stream *stream, bool reading, bool writing);
