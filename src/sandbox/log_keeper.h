/* SPDX-License-Identifier: Apache-2.0
 * The supervisor's part in the request log: it opens and renames the files that the locked-in proxy
 * writes.  It never writes a line. */
#pragma once

#include "base/loop.h"

struct log_keeper {
    const char *sandbox; /* borrowed */
    struct sb_loop *loop;
    int log, head; /* the head's lock is held: one writer at a time */
    int near, far; /* the socket on which the proxy asks; `far` is the proxy's end */
    sb_watch watch;
};

#define LOG_KEEPER_CLOSED                                                                          \
    {                                                                                              \
        .log = -1, .head = -1, .near = -1, .far = -1                                               \
    }

/* Waits (some seconds) for a writer that is just ending. */
int log_keeper_open(struct log_keeper *keeper, const char *sandbox, struct sb_err **err);
/* Makes `log` and `far` ready for a new proxy, which has to find where the last one stopped. */
int log_keeper_renew(struct log_keeper *keeper, struct sb_err **err);
/* Answers from this loop on. */
int log_keeper_watch(struct log_keeper *keeper, struct sb_loop *loop, struct sb_err **err);
/* Once the proxy has ended: lets go of the files and the lock. */
void log_keeper_close(struct log_keeper *keeper);
