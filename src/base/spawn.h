/* SPDX-License-Identifier: Apache-2.0
 * Starts a helper program of ours.  Nothing of the caller's memory is copied for it, as fork(2)
 * would: between large programs that is most of the cost of a start. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

enum { SB_SPAWN_CHANNEL = 3 }; /* where a helper finds `channel` */

struct sb_spawn {
    const char *path;
    char *const *argv;
    char *const *env;
    int channel;
    bool apart; /* from the caller's session, directory and standard streams */
};

/* No descriptor but 0..3 is passed on, and no signal held back.  A program that cannot be executed
 * is an error here. */
int sb_spawn(const struct sb_spawn *spec, pid_t *ret_pid, struct sb_err **err);
