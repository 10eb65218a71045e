/* SPDX-License-Identifier: Apache-2.0
 * Messages between our processes: one JSON object and some descriptors per SOCK_SEQPACKET packet.
 *
 * The peer may be hostile (sbx-init lives inside the sandbox): a packet is bounded by SB_MSG_MAX
 * bytes and SB_MSG_FDS descriptors, its JSON by the same bytes, and descriptors that nobody asked
 * for are closed.  A longer text travels in a sealed memfd, the last descriptor of the packet
 * {"in_memfd":true}; only sb_msg_recv_large() takes it, for peers that are trusted. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

enum { SB_MSG_MAX = 128 * 1024, SB_MSG_LARGE_MAX = 8 * 1024 * 1024, SB_MSG_FDS = 16 };

struct sb_msg {
    json_t *json; /* always an object */
    int fds[SB_MSG_FDS];
    size_t nfds;
};

/* Releases the JSON and every descriptor that was not stolen (set to -1). */
void sb_msg_done(struct sb_msg *msg);
static inline void sb_cleanup_msg(struct sb_msg *msg)
{
    sb_msg_done(msg);
}
SB_DEFINE_CLEANUP(json, json_t *, json_decref)

/* Sends `json` (borrowed) with `nfds` descriptors (borrowed).  Never raises SIGPIPE. */
int sb_msg_send(int sock, const json_t *json, const int *fds, size_t nfds, struct sb_err **err);
/* Receives one message.  Returns 1, 0 when the peer closed, or a negative code; -EAGAIN on a
 * non-blocking socket with nothing to read. `ret` is untouched unless 1 is returned. */
int sb_msg_recv(int sock, struct sb_msg *ret, struct sb_err **err);
/* The same from who may have ended: when that left something of ours unread, the socket tells of it
 * (ECONNRESET) before what was said last. */
int sb_msg_recv_last(int sock, struct sb_msg *ret, struct sb_err **err);
int sb_msg_recv_large(int sock, struct sb_msg *ret, struct sb_err **err);
/* No send or receive on this socket waits longer: for peers that a sandbox might have taken over.
 */
void sb_msg_limit_wait(int sock, unsigned seconds);
/* Moves descriptor i out of the message, or -1. */
int sb_msg_steal_fd(struct sb_msg *msg, size_t i);
/* A sealed, close-on-exec memfd holding the bytes, positioned at 0; or -errno. */
int sb_memfd(const char *name, const void *data, size_t len);

/* Reading fields: NULL / fallback when missing or of another type. */
const char *sb_json_str(const json_t *object, const char *key);
json_int_t sb_json_int(const json_t *object, const char *key, json_int_t fallback);
/* Appends `text` to an array of strings that does not hold it yet. */
void sb_json_add_once(json_t *array, const char *text);
