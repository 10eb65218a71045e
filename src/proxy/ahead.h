/* SPDX-License-Identifier: Apache-2.0
 * A connection to an origin that is made ahead of its request: while the client shakes hands with
 * us, we do so with the origin.
 *
 * It takes nothing that only a request could decide.  It is made where the policy lets any request
 * pass, as it would a tunnel, and is judged, resolved and connected as for a request; and it is
 * made for one connection of the sandbox.  Only a request of that very one, judged like all others,
 * gets it, and says by its credential what it is kept for from then on.  One that ends before a
 * request has come has a line of its own in the log: nothing leaves without one. */
#pragma once

#include "proxy/exchange.h"
#include "proxy/origin.h"

struct ahead {
    uint64_t client; /* whose request it is for (struct door) */
    struct judgement judgement;
};

/* The client of this door shakes hands, and nothing is known of its origin yet: connects.  False
 * where that is not allowed. */
bool ahead_begin(struct proxy *proxy, const struct door *door);
/* The client is gone. */
void ahead_drop(struct proxy *proxy, const struct door *door);

/* ---- For an origin that has one (origin->ahead), and its link ---- */

/* A request has come, in whose line of the log it is from now on. */
void ahead_taken(struct origin *origin);
/* It is about to end since that failed (static text), or since the policy forbids the address. */
void ahead_failed(struct origin *origin, const char *what);
void ahead_refused(struct origin *origin);
/* It ends, and no request came. */
void ahead_end(struct origin *origin);
