/* SPDX-License-Identifier: Apache-2.0
 * Checking a request log: does every line follow from the one before, from the first line that is
 * on disk to the place that is kept in the head file?  Reads in constant memory and may run while
 * the log is being written. */
#pragma once

#include "base/err.h"
#include "policy/chain.h"

struct log_finding {
    const char *file; /* without the directory */
    size_t line;      /* 0: the whole file */
    bool harmless;    /* worth knowing, but no sign of a change */
    const char *text;
};
typedef void log_finding_fn(void *arg, const struct log_finding *finding);

struct log_verified {
    size_t files, findings; /* harmless ones not counted */
    uint64_t lines, first_seq;
    struct log_chain last;
};

/* SB_ENOTFOUND when there is neither a log nor a trace of one. */
int log_verify(const char *sandbox, log_finding_fn *fn, void *arg, struct log_verified *ret,
               struct sb_err **err);
