/* SPDX-License-Identifier: Apache-2.0
 * A tunnel for a client that asked for one: by CONNECT, by SOCKS, or by speaking a protocol that we
 * do not read.  Judged by host and port, and judged again with each new configuration. */
#pragma once

#include "policy/host.h"

struct conn;

/* How the client asked, and so how it is told of a refusal.  SILENT: it was redirected, and says
 * nothing: perhaps its server speaks first. */
enum passage_kind { PASSAGE_CONNECT, PASSAGE_SOCKS, PASSAGE_SILENT, PASSAGE_TLS, PASSAGE_RAW };

/* Judges, and goes on as a step of the connection.
 *
 * CONNECT, SOCKS and SILENT are connected and then stand by, for nobody has said yet what they
 * carry: the state is CONN_FIRST again.  When the server is the first to speak, it is a protocol
 * that we do not read.  Else the client's first bytes decide, as they do everywhere: TLS must name
 * the host that was judged, requests are read, and this is called again (TLS, RAW) for what goes on
 * as a tunnel. */
int passage_begin(struct conn *conn, const struct host *host, uint16_t port,
                  enum passage_kind kind);
/* Refuses TLS that was judged before: its name is not that of the connection, or the like. */
int passage_refuse_tls(struct conn *conn, const char *reason);
/* Logs that the client asked for a tunnel in a way that cannot be read; `why` is static text. */
void passage_bad_request(const struct conn *conn, const char *why);
/* What stands by turned out to carry what is read: its requests are logged instead. */
void passage_drop(struct conn *conn);
/* The configuration has been replaced. */
void passage_judge_again(struct conn *conn);
/* A step of the connection while the tunnel is not open. */
int passage_step(struct conn *conn);
/* Bytes that the open tunnel has moved. */
uint64_t passage_moved(const struct conn *conn);
/* Why it is about to end, for the log; a connection without a passage is left alone. */
void passage_set_reason(struct conn *conn, const char *reason);
/* The connection ends. */
void passage_end(struct conn *conn);
