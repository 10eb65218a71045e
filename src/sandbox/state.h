/* SPDX-License-Identifier: Apache-2.0
 * sandbox.json: what was asked for, and the plan.  Until all of its creation has been carried out
 * it is called creating.json. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* In its directory: the file of state_lock(). */
#define STATE_LOCK "supervisor.lock"

/* SB_ENOTFOUND when there is none. */
int state_load(const char *name, json_t **ret, struct sb_err **err);
/* Of what was loaded: whether its creation was finished. */
bool state_is_ready(const json_t *config);
/* Writes that of a sandbox to be made into its directory. */
int state_write(const char *dir, const json_t *config, struct sb_err **err);
/* Its creation is finished.  What was removed meanwhile does not come back. */
int state_finish(const char *name, struct sb_err **err);
/* Whether the sandbox has a kernel of its own ("isolation": "vm"). */
bool state_is_vm(const json_t *config);
/* Why a sandbox ended that nobody stopped, for whoever waited for it: put by its supervisor (NULL:
 * it starts anew), read by others (NULL: unknown; the caller frees it). */
void state_put_end(const char *name, const char *why);
char *state_end(const char *name);
/* What failed in the making of one that was kept all the same; NULL: nothing.  As above. */
void state_put_unfinished(const char *name, const char *why);
char *state_unfinished(const char *name);
/* The lock that a supervisor holds while it lives, wherever its socket has gone; waits a little for
 * one that is just ending.  Returns a descriptor; SB_ENOTFOUND when there is no such sandbox. */
int state_lock(const char *name, struct sb_err **err);
/* Writes into a lock file who has locked it, and reads it (0: unknown), for messages to people. */
void state_sign_lock(int fd);
long state_lock_holder(int fd);
