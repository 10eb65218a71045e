/* SPDX-License-Identifier: Apache-2.0
 * Keeps the OAuth tokens that the sandbox's proxy took out of an answer: the proxy has no files.
 *
 * One kind of message, one direction: {"op":"tokens","service","kit","access","refresh",
 * "expires_in"}.  A proxy that was taken over can change the tokens of its own sandbox, for
 * services that its plan signs in to, and nothing else. */
#pragma once

#include <jansson.h>

#include "base/loop.h"

typedef void token_keeper_fn(void *arg);

struct token_keeper {
    const char *sandbox; /* borrowed */
    struct sb_loop *loop;
    int near, far; /* `far` is the proxy's end */
    sb_watch watch;
    json_t *const *config; /* sandbox.json, as it is when a message comes */
    token_keeper_fn *stored;
    void *arg;
};

/* Makes `far` ready for a new proxy. */
int token_keeper_renew(struct token_keeper *keeper, struct sb_err **err);
/* Listens from this loop on. */
int token_keeper_watch(struct token_keeper *keeper, struct sb_loop *loop, struct sb_err **err);
