/* SPDX-License-Identifier: Apache-2.0
 * A relay of messages (base/msg.h) and of the descriptors in them over one reliable byte stream.
 *
 * Two links, one on the host and one in a virtual machine, joined by a wire, stand for one
 * SOCK_SEQPACKET socket.  A descriptor in a message stays with the link that got it; the other link
 * makes a stand-in, a pipe or a socket, and moves bytes, ends and further messages between the two.
 * So sbx-supervisor and the command line on one end and sbx-init on the other speak with each other
 * as if they were in one kernel, and know nothing of this.
 *
 * The machine is hostile.  What the host's link takes from it is bounded (link_internal.h);
 * whatever is against the rules ends the link with a reason that names it.
 *
 * A link works in an sb_loop and never blocks, so an owner that waits for answers of the other end
 * (as the supervisor does at its start) needs its link in another process. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/loop.h"

struct link;

enum link_side {
    LINK_HOST,  /* its own processes are trusted, its peer is not */
    LINK_GUEST, /* the other way round */
};

struct link_events {
    /* The link has ended, once and for all: the wire, the `orders` socket or the other link did, or
     * the other link broke the protocol.  `why` is the link's.  It may be freed from here. */
    void (*closed)(void *arg, const struct sb_err *why);
    /* A message of link_control() from the other end, or NULL when none is expected.  Negative,
     * with `err`, ends the link.  The link must not be freed from here. */
    int (*control)(void *arg, const json_t *message, struct sb_err **err);
    /* The link has become busy (link_is_busy()), or NULL.  The link must not be
     * freed from here. */
    void (*busy)(void *arg);
    void *arg;
};

/* Relays between `orders`, a SOCK_SEQPACKET socket, and `wire`, a stream socket or a virtio-serial
 * port, to a link of the other side.  Takes both descriptors, also on failure, and makes them
 * non-blocking.  From here on the process ignores SIGPIPE. */
int link_new(struct sb_loop *loop, enum link_side side, int wire, int orders,
             const struct link_events *events, struct link **ret, struct sb_err **err);
void link_free(struct link *link);
/* Lets this process have as many descriptors as a link may need at once, as far as it is allowed.
 */
void link_raise_limits(void);
/* Whether a descriptor that was sent from here is open, or about to be: commands run, or files are
 * written. */
bool link_is_busy(const struct link *link);
/* A message for the owner of the other link, who gets it in `control`: what has no place in the
 * protocol that is relayed.  At most 64 KiB of text; SB_ELIMIT when too many wait to be sent. */
int link_control(struct link *link, const json_t *message, struct sb_err **err);
