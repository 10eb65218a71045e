/* SPDX-License-Identifier: Apache-2.0
 * What the command line asks of sandboxes: the state on disk and the supervisor of each. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/msg.h"
#include "sandbox/layout.h"

/* Array of
 * {"name","agent","status":"running|stopped|broken|creating","isolation":"ns|vm","workspace",
 *  "ports":[],"created"}, and "limits", "ended", "unfinished" where there is something to say */
int sandbox_list(json_t **ret, struct sb_err **err);
/* sandbox.json; SB_ENOTFOUND with a hint of the nearest name. */
int sandbox_load(const char *name, json_t **ret, struct sb_err **err);
/* Connects to the running supervisor: descriptor, or -ENOENT when it is stopped. */
int sandbox_connect(const char *name, struct sb_err **err);
/* Starts the program of its supervisor, which loads while the caller makes the sandbox, and does
 * nothing until sandbox_start().  For the one sandbox that this process is about to make. */
void sandbox_start_ahead(const char *name);
/* Starts it unless it runs.  *ret_started tells whether this call did: then other starts wait, and
 * the sandbox ends with this process, until sandbox_settle(). */
int sandbox_start(const char *name, bool *ret_started, struct sb_err **err);
/* All that belongs to the start has been done: from now on it outlives this process. */
int sandbox_settle(const char *name, struct sb_err **err);
int sandbox_stop(const char *name, struct sb_err **err);
/* Why one has just ended that was not told to, or NULL; waits until its supervisor has told.  The
 * caller frees it. */
char *sandbox_end_reason(const char *name);
/* Stops it and removes everything of it but its logs; 1, or 0 where there was none but perhaps its
 * rests.  A command that is still making it fails. */
int sandbox_remove(const char *name, struct sb_err **err);
/* The same by the command that makes it and gives up. */
int sandbox_discard(const char *name, struct sb_err **err);
/* Records that its plan has been carried out. */
int sandbox_mark_ready(const char *name, struct sb_err **err);
/* Unless that is recorded: that it is kept although its plan was not carried out, and why not. */
void sandbox_mark_kept(const char *name, const struct sb_err *why);
/* A descriptor: while it is open nobody else takes a name. */
int sandbox_lock_creations(struct sb_err **err);
/* Takes the name for a sandbox to be made, and writes its sandbox.json (state "creating", an id
 * range that no other has).  *ret_claim, a descriptor, is kept open until it is made: while it is,
 * others see that somebody works on it.  SB_EEXIST when the name is taken. */
int sandbox_claim(const char *name, json_t *config, int *ret_claim, struct sb_err **err);
/* Takes nothing: SB_EEXIST, as that says it, when the name is taken now. */
int sandbox_check_free(const char *name, struct sb_err **err);
/* Whether the command that claimed it is still at work; and waiting until it is not. */
bool sandbox_is_claimed(const char *name);
void sandbox_await_claim(const char *name);
/* Its process id, for a message; 0 when it is not known. */
long sandbox_claim_holder(const char *name);
/* One request to its supervisor; `ret` (may be NULL) is the reply when it was not a refusal.
 * -ENOENT when it does not run, -EPIPE when it ended before it had read the request. */
int sandbox_ask(const char *name, const json_t *request, const int *fds, size_t nfds,
                struct sb_msg *ret, struct sb_err **err);
/* Calls `fn` for each sandbox by name, in order, until it fails. */
int sandbox_each(int (*fn)(const char *name, void *arg, struct sb_err **err), void *arg,
                 struct sb_err **err);
/* Tells every running sandbox (or one) to re-read policy and secrets. */
int sandbox_reload(const char *name_or_null, struct sb_err **err);

struct sandbox_exec {
    const char *const *argv; /* NULL-terminated */
    const json_t *env;       /* added to the sandbox's own environment; may be NULL */
    const char *user;        /* NULL: "1000" */
    const char *workdir;     /* NULL: the primary workspace */
    bool tty, interactive, detach;
    /* Every piece of output, when set, instead of our stdout and stderr. */
    void (*output)(void *arg, const void *data, size_t len);
    void *output_arg;
};
/* Runs a command in a running sandbox to its end (or starts it, with detach).  *ret_status is its
 * exit code, 128+n for a signal, 126/127 when it could not be run. */
int sandbox_run(const char *name, const struct sandbox_exec *exec, int *ret_status,
                struct sb_err **err);
/* Writes a file inside, as process 1 there sees the path. */
int sandbox_write_file(const char *name, const char *path, const void *data, size_t len,
                       unsigned mode, unsigned uid, bool only_if_missing, struct sb_err **err);
